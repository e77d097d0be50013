"""Which width of indices a call gets is decided where it is bound, kernel by kernel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.lower import reach
from symgraph.lower.cuda import target
from tests.backends.host_device import HostDevice
from tests.lower.cuda_host import COMPILER

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
NARROW = 10_000  # the limit that stands for 2**31 here


@pytest.fixture
def asked(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Note what is compiled, module by module; indices are narrow up to a small number."""
    monkeypatch.setattr(reach, "LIMIT", NARROW)
    found: list[list[str]] = []
    compiled = host.functions

    def noted(source: str, names: Sequence[str]) -> list[Any]:
        for name in names:
            text = source[source.index(f" {name}(") :].split("\n}\n", 1)[0]
            if name != "latch":
                wide = re.search(r"for \(long long|const long long s0", text) is not None
                assert wide == name.endswith("_wide"), text
        found.append(list(names))
        return compiled(source, names)

    monkeypatch.setattr(host, "functions", noted)
    return found


def standardised() -> tuple[Any, Any]:
    x = sg.tensor("x", (sg.dim("indices_rows"), 8))
    return x, (x - x.mean(axis=0)) / (x.std(axis=0) + 1)


def test_both_widths_serve_one_plan(host: HostDevice, asked: list[list[str]]) -> None:
    x, value = standardised()
    f, g = (sg.function([x], value, backend=backend) for backend in ("cuda", "reference"))
    rng = np.random.default_rng(0)
    for rows in (40, 4000, 40, 5000, 50):  # narrow and wide, several times each
        array = rng.standard_normal((rows, 8)).astype(np.float32)
        for _ in range(3):  # step by step, recorded, as recorded
            np.testing.assert_allclose(f(array), g(array), rtol=2e-5, atol=1e-6)
    narrow, wide = asked
    assert all(name == "latch" or not name.endswith("_wide") for name in narrow)
    assert all(name == "latch" or name.endswith("_wide") for name in wide)
    assert len(f._executor.plan.kernels) == len(narrow) - 1


def test_what_no_size_asks_for_is_not_compiled(host: HostDevice, asked: list[list[str]]) -> None:
    x, value = standardised()
    f = sg.function([x], value, backend="cuda")
    f(np.ones((4000, 8), np.float32))
    f(np.ones((6000, 8), np.float32))
    (wide,) = asked
    assert any(name.endswith("_wide") for name in wide)


@pytest.mark.parametrize("together", [False, True])
def test_each_kernel_has_its_own_width(
    host: HostDevice, asked: list[list[str]], together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One text for two sizes: of one it is narrow, of the other wide; in one launch both are."""
    if not together:
        monkeypatch.setattr(target, "bundle", lambda plan, nominal: None)
    n, k = sg.dim("indices_n"), sg.dim("indices_k")
    x, y = sg.tensor("x", (n,)), sg.tensor("y", (k,))
    f = sg.function([x, y], [sg.exp(x), sg.exp(y)], backend="cuda")
    arrays = [np.linspace(-1, 1, size).astype(np.float32) for size in (50, 9_000)]
    for given in (arrays, arrays[::-1]):
        for found, one in zip(f(*given), given):
            np.testing.assert_allclose(found, np.exp(one), rtol=1e-6)
    assert asked == [[*([] if together else ["kernel0"]), "kernel0_wide", "latch"]]


def test_the_border_is_exact(host: HostDevice, asked: list[list[str]]) -> None:
    x = sg.tensor("x", (sg.dim("indices_n"),))
    f = sg.function([x], sg.exp(x), backend="cuda")
    f.bind(indices_n=8)
    executor = f._executor
    (kernel,) = executor.plan.kernels
    border = NARROW - kernel.stride(host.most_blocks)
    assert 0 < border < NARROW
    for size, wide in ((border, False), (border + 1, True)):
        array = np.linspace(-1, 1, size).astype(np.float32)
        np.testing.assert_allclose(f(array), np.exp(array), rtol=1e-6)
        assert [name.endswith("_wide") for names in asked for name in names] == (
            [False, False, True, False] if wide else [False, False]
        )


def test_steps_that_write_variables_have_both(host: HostDevice, asked: list[list[str]]) -> None:
    """They look at the mark of checks, in either width, and the mark is made in either."""
    x = sg.tensor("x", (sg.dim("indices_rows"), 5))
    y = sg.tensor("y", (x.shape[0],), "int32")
    results = []
    for backend in ("cuda", "reference"):
        w = sg.shared(np.ones((5,), np.float32), "w")
        loss = sg.nn.cross_entropy(x * w, y).mean()
        step = sg.function([x, y], [], {w: w - sg.grad(loss, w)}, backend=backend)
        for rows in (10, 2500, 10, 2600):
            rng = np.random.default_rng(rows)
            step(rng.standard_normal((rows, 5)).astype(np.float32),
                 rng.integers(0, 5, rows).astype(np.int32))  # fmt: skip
        results.append(w.value)
        if backend == "cuda":
            assert step._executor.plan.latched
            step(np.ones((2500, 5), np.float32), np.full(2500, 5, np.int32))
            with pytest.raises(sg.errors.SymgraphError, match="a step before this one"):
                step(np.ones((10, 5), np.float32), np.zeros(10, np.int32))
            np.testing.assert_array_equal(w.value, results[0])
    np.testing.assert_allclose(*results, rtol=1e-5)
    assert any(name.endswith("_wide") for names in asked for name in names)
