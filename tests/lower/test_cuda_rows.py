"""Rows in CUDA kernels, run on this CPU: a thread keeps those of its own channel.

No GPU has run them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.lower import rows
from symgraph.lower.cuda.kernel import Kernel
from symgraph.lower.cuda.target import device_target
from symgraph.lower.plan import Plan, make_plan
from tests.lower.cascade import Line, gradients, mixed
from tests.lower.cuda_host import COMPILER, Host, run

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
CHANNELS = 17
CASES = {
    "same": (Line(2, 5, 1, (2, 2)), Line(3, 5, 1, (2, 2))),
    "full, dilated": (Line(2, 3, 1, (4, 4), 2), Line(3, 4, 1, (3, 3))),
    "valid, stride": (Line(2, 3), Line(3, 4, 2)),
}


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rows pay for images that a CPU is done with soon."""
    monkeypatch.setattr(rows, "LARGE", 512)  # more than filters have


def lateral(value: sg.Value) -> bool:
    """Let a library compute what sums over channels: around it channels are innermost."""
    return value.op.name.startswith("conv") and value.op.groups == 1  # type: ignore[attr-defined]


def along(line: Line) -> dict[str, Any]:
    """Give the options of a convolution along one axis."""
    turned = slice(None, None, 1 if line.axis == 2 else -1)
    return {
        "padding": (line.padding, (0, 0))[turned], "stride": (line.stride, 1)[turned],
        "dilation": (line.dilation, 1)[turned], "groups": CHANNELS,
    }  # fmt: skip


def planned(
    vertical: Line, horizontal: Line, keeps: bool = True
) -> tuple[Plan, dict[sg.Value, Any], dict[str, Any]]:
    """Plan a stage and its gradients, and give what it is fed and what must come out."""
    rng = np.random.default_rng(1)
    x = sg.tensor("x", (1, 3, 18, 21))
    shapes = {
        "lateral.weight": (CHANNELS, 3, 1, 1), "lateral.bias": (CHANNELS,),
        "vertical.weight": (CHANNELS, 1, vertical.taps, 1), "vertical.bias": (CHANNELS,),
        "horizontal.weight": (CHANNELS, 1, 1, horizontal.taps), "horizontal.bias": (CHANNELS,),
    }  # fmt: skip
    weights = {name: sg.tensor(name, shape) for name, shape in shapes.items()}
    value: sg.Value = x
    options: dict[str, dict[str, Any]] = {
        "lateral": {}, "vertical": along(vertical), "horizontal": along(horizontal)
    }  # fmt: skip
    for name, each in options.items():
        value = sg.conv2d(value, weights[f"{name}.weight"], **each)
        value = value + weights[f"{name}.bias"].reshape((1, CHANNELS, 1, 1))
    end = sg.tensor("end", (CHANNELS, CHANNELS, 1, 1))  # so that a library reads what comes out
    y = sg.conv2d(value, end)
    g = sg.tensor("g", y.shape)
    slopes = sg.grad((y * g).sum(), [x, *weights.values()])
    graph = sg.function([x, g, end, *weights.values()], [y, *slopes], backend="reference").graph
    plan = make_plan(graph, {}, device_target({}, lateral, rows=keeps))
    feeds = {
        one: rng.standard_normal([int(n) for n in one.shape]).astype(np.float32)
        for one in graph.inputs
    }
    by_name = {one.label: feeds[one] for one in graph.inputs}
    by_name["end"][...] = np.eye(CHANNELS)[:, :, None, None]
    given = {name: by_name[name] for name in weights}
    wanted = gradients(by_name["x"], given, vertical, horizontal, by_name["g"])
    return plan, feeds, wanted


def rows_of(plan: Plan) -> list[list[str]]:
    """Give the lines that declare rows, for each kernel that has some."""
    texts = [one.text for one in plan.kernels if isinstance(one, Kernel)]
    found = [re.findall(r"^.*float row\d+\[\d+\];$", text, re.MULTILINE) for text in texts]
    return [one for one in found if one]


@pytest.mark.parametrize(
    ("case", "wide"),
    [
        pytest.param("same", False, marks=pytest.mark.full),
        ("valid, stride", True),
        ("full, dilated", False),
    ],
)
def test_cascades_on_a_device(case: str, wide: bool, tmp_path: Path) -> None:
    plan, feeds, wanted = planned(*CASES[case])
    assert rows_of(plan)
    host = Host(plan.kernels, tmp_path, wide=wide)

    def called(value: sg.Value, *operands: Any) -> Any:
        return mixed(value.op.name, *operands)

    results = run(plan, host, feeds, {}, 3, calls=called)
    for (name, one), found in zip(wanted.items(), results, strict=True):
        atol = 5e-5 * np.abs(one).max()
        np.testing.assert_allclose(found, one, atol=atol, err_msg=name)


def test_a_device_keeps_no_rows_unless_it_is_told() -> None:
    plain, rowed = (planned(*CASES["same"], keeps)[0] for keeps in (False, True))
    assert not rows_of(plain)
    assert len(rows_of(rowed)) == 3  # there, back, and gradients of filters
    assert len(rowed.steps) < len(plain.steps)


def test_a_row_is_a_threads_own() -> None:
    plan, _, _ = planned(*CASES["same"])
    assert not any("__shared__" in line for kernel in rows_of(plan) for line in kernel)
