"""Every sample of the registry, compiled for this CPU, against the reference.

Samples are compiled together, many in one graph, because a compiler run costs more than a kernel;
when a graph fails its samples are run alone, so that the failure has a name.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from symgraph.backends.cpu.calls import TABLE
from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cuda.device import Device
from symgraph.config import config
from symgraph.dims import Dim
from symgraph.errors import ShapeError
from symgraph.graph.dtypes import has_gradient
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.measured import measured_sizes
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.walk import topological
from symgraph.lower.plan import CallStep
from symgraph.runtime import native
from symgraph.runtime.device import DeviceExecutor
from symgraph.runtime.native import NativeExecutor
from symgraph.runtime.staged import StagedExecutor
from tests.ops.registry_cases import (
    CASES,
    FLOATS,
    KERNEL_NAMES,
    NAMES,
    REFUSED_DTYPES,
    STRUCTURE,
    Built,
    Case,
    build,
    chosen,
    random_like,
)
from tests.tolerances import assert_close, class_of

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")

TOGETHER = 12  # operations whose samples are one graph
# Where compiling costs most, one sample of each operation is daily and `-m full` takes all: what
# derivatives and other sizes are made of is seen above, in every sample.
whole_or_one = pytest.mark.parametrize(
    "whole", [pytest.param(False, id="one"), pytest.param(True, id="all", marks=pytest.mark.full)]
)


@dataclass
class Sheet:
    """Values of many samples with everything that computes them."""

    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    feeds: dict[Value, Any] = field(default_factory=dict)
    env: dict[Dim, int] = field(default_factory=dict)
    labels: list[tuple[str, str]] = field(default_factory=list)  # the class and the case of each

    def add(self, built: Built, outputs: Sequence[Value], feeds: dict[Value, Any]) -> None:
        """Take values of a sample."""
        built.check_guards()
        self.inputs.extend(feeds)
        self.outputs.extend(outputs)
        self.feeds.update(feeds)
        self.env.update(built.env)
        self.labels.extend([(kind_of(built.case, outputs), built.case.id)] * len(outputs))

    def problems(self) -> list[str]:
        """Compute natively and with the reference, and say what differs."""
        expected = interpret(self.outputs, self.feeds, self.env)
        before = [array.tobytes() for array in self.feeds.values()]
        found = executor_of(self).run(self.feeds, self.env)
        assert before == [array.tobytes() for array in self.feeds.values()], "an input is written"
        return differences(found, expected, self.labels)


def executor_of(sheet: Sheet, device: Device | None = None) -> Any:
    """Make what computes a sheet, on a device or here: in stages where data decide sizes."""
    sizes = measured_sizes(sheet.outputs)
    graph = Graph(sheet.inputs, sheet.outputs, {}, sizes)
    if sizes:
        return StagedExecutor(graph, dict.__setitem__, device)
    return NativeExecutor(graph) if device is None else DeviceExecutor(graph, device)


def kind_of(case: Case, outputs: Sequence[Value]) -> str:
    """Give the class of a sample: of its operation, unless the sample computes more than that."""
    own = class_of(case.name)
    names = {node.op.name for node in topological(outputs)} - set(STRUCTURE)
    return own if {class_of(name) for name in names} <= {own, "exact"} else "composite"


def differences(
    found: Sequence[Any], expected: Sequence[Any], labels: Sequence[tuple[str, str]]
) -> list[str]:
    """Say of each array that is not what the reference gives what is wrong with it."""
    problems = []
    for one, wanted, (kind, label) in zip(found, expected, labels, strict=True):
        if one.dtype != wanted.dtype:
            problems.append(f"{label}: the dtype is {one.dtype}, not {wanted.dtype}")
            continue
        try:
            assert_close(one, wanted, kind, label)
        except AssertionError as problem:
            problems.append(str(problem))
    return problems


def groups(names: Sequence[str]) -> list[Any]:
    """Cut names into groups, each called by its first and its last."""
    found = []
    for start in range(0, len(names), TOGETHER):
        own = names[start : start + TOGETHER]
        found.append(pytest.param(own, id=f"{own[0]}-{own[-1]}"))
    return found


def cases_of(
    names: Sequence[str], dtype: str, daily: Container[str] | None = None
) -> list[tuple[Case, str | None]]:
    """Give the samples that can be of a dtype; those without floats only once, with float32.

    With `daily` only those that are named there.
    """
    return [
        (case, dtype if case.float_operands else None)
        for case in CASES
        if case.name in names
        and (daily is None or case.id in daily)
        and (case.name, dtype) not in REFUSED_DTYPES
        and (dtype in case.dtypes if case.float_operands else dtype == "float32")
    ]


def require(sheets: Sequence[Sheet]) -> None:
    """Run samples together; say of each that fails what is wrong, and run it alone if need be."""
    problems = []
    for whole, parts in together(sheets):
        try:
            problems += whole.problems()
        except Exception:
            for one in parts:
                try:
                    one.problems()
                except Exception as alone:
                    alone.add_note(f"while computing {one.labels[0][1]}")
                    raise
            raise
    assert not problems, "\n".join(problems)


def together(sheets: Sequence[Sheet]) -> list[tuple[Sheet, list[Sheet]]]:
    """Join samples whose sizes of one name have one number (sizes of one name are one size)."""
    joined: list[tuple[Sheet, list[Sheet]]] = []
    for one in sheets:
        fits = [
            pair
            for pair in joined
            if all(pair[0].env.get(size, number) == number for size, number in one.env.items())
        ]
        if not fits:
            joined.append((Sheet(), []))
        whole, parts = fits[0] if fits else joined[-1]
        parts.append(one)
        whole.inputs += one.inputs
        whole.outputs += one.outputs
        whole.feeds |= one.feeds
        whole.env |= one.env
        whole.labels += one.labels
    return joined


def check_values(names: Sequence[str], dtype: str) -> None:
    sheets = []
    for case, kind in cases_of(names, dtype):
        built, sheet = build(case, kind), Sheet()
        sheet.add(built, built.outputs, built.feeds)
        sheets.append(sheet)
    if sheets:
        require(sheets)


def check_gradients(names: Sequence[str], dtype: str, daily: Container[str] | None = None) -> None:
    sheets = []
    for case, kind in cases_of(names, dtype, daily):
        sheet = pulled_back(case, kind) if case.checked else None
        if sheet is not None:
            sheets.append(sheet)
    if sheets:
        require(sheets)


def pulled_back(case: Case, dtype: str | None) -> Sheet | None:
    """Pull random cotangents of a sample's float results back to the operands they depend on."""
    built = build(case, dtype)
    outputs = [output for output in built.outputs if has_gradient(output.dtype)]
    needed = set(topological(outputs))
    wrt = [built.inputs[slot] for slot in case.checked if built.inputs[slot] in needed]
    if not wrt:
        return None
    cotangents = [tensor(f"g{i}", out.shape, out.dtype) for i, out in enumerate(outputs)]
    rng = np.random.default_rng(case.seed)
    feeds = {g: random_like(rng, g.tensor, built.env) for g in cotangents}
    sheet = Sheet()
    sheet.add(built, F.vjp(outputs, wrt, cotangents), {**built.feeds, **feeds})
    sheet.labels = [("composite", label) for _, label in sheet.labels]
    return sheet


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", groups(list(NAMES)))
def test_every_sample_is_what_the_reference_gives(names: Sequence[str]) -> None:
    check_values(names, "float32")


@pytest.mark.full
@pytest.mark.parametrize("dtype", [each for each in FLOATS if each != "float32"])
@pytest.mark.parametrize("names", groups(list(NAMES)))
def test_every_sample_in_other_dtypes(names: Sequence[str], dtype: str) -> None:
    check_values(names, dtype)


def test_nothing_is_left_out() -> None:
    together = [name for group in groups(list(NAMES)) for name in group.values[0]]
    assert together == list(NAMES)
    assert len(cases_of(together, "float32")) == len(CASES)


def test_a_wrong_number_shape_and_dtype_are_found() -> None:
    x, labels = np.ones(3, np.float32), [("reduce", "a:b")]
    assert differences([x], [x], labels) == []
    assert "1 of 3 elements are wrong" in differences([x], [x + np.float32([0, 1, 0])], labels)[0]
    assert "a:b: shape (3,), not (1, 3)" in differences([x], [x[None]], labels)[0]
    assert "a:b: the dtype is float64" in differences([x.astype(np.float64)], [x], labels)[0]


# -- other sizes -----------------------------------------------------------------------------------

FIXED = ("A",)  # a size that its only sample is about
SIZES = sorted({size for case in CASES for size in case.sample.sizes} - set(FIXED))
GROWN = (17, 33)


def grown(case: Case, size: str, number: int) -> Built | None:
    """Build a sample with one size grown; None where the sample is about that size."""
    try:
        built = build(case, other_sizes={size: number})
        built.check_guards()
    except ShapeError:
        return None
    return built


@whole_or_one
@pytest.mark.parametrize("size", SIZES)
def test_kernels_serve_other_sizes(size: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled at the sizes of the samples is right where one of them is larger."""
    cases = [
        case
        for case in CASES
        if size in case.sample.sizes and all(grown(case, size, number) for number in GROWN)
    ]
    daily = chosen(cases, "other sizes")
    cases = [case for case in cases if whole or case.id in daily]
    sheets = []
    for case in cases:
        built, sheet = build(case), Sheet()
        sheet.add(built, built.outputs, built.feeds)
        sheets.append(sheet)
    assert sheets
    by_label = {case.id: case for case in cases}
    for joined, parts in together(sheets):
        executor = executor_of(joined)
        executor.run(joined.feeds, joined.env)
        monkeypatch.setattr(native, "compile_text", _refuse)
        for number in GROWN:
            feeds, env = dict[Value, Any](), dict(joined.env)
            for part in parts:
                larger = grown(by_label[part.labels[0][1]], size, number)
                assert larger is not None
                feeds.update(zip(part.inputs, larger.arrays))
            # a size that a sample runs at 0 has a name of its own
            env.update({each: number for each in env if str(each) in (size, f"{size}_or_0")})
            expected = interpret(joined.outputs, feeds, env)
            problems = differences(executor.run(feeds, env), expected, joined.labels)
            assert not problems, f"{size} = {number}:\n" + "\n".join(problems)
        monkeypatch.undo()


def _refuse(text: str) -> bytes:
    raise AssertionError("other sizes must not compile")


# -- derivatives -----------------------------------------------------------------------------------

DIFFERENTIABLE = [name for name in NAMES if any(c.name == name and c.checked for c in CASES)]
DAILY_DERIVATIVES = chosen([case for case in CASES if case.checked], "native derivatives")
KERNEL_DIFFERENTIABLE = [name for name in DIFFERENTIABLE if name in KERNEL_NAMES]


@whole_or_one
@pytest.mark.parametrize("names", groups(DIFFERENTIABLE))
def test_derivatives_are_what_the_reference_gives(names: Sequence[str], whole: bool) -> None:
    check_gradients(names, "float32", None if whole else DAILY_DERIVATIVES)


@pytest.mark.full
@pytest.mark.parametrize("dtype", [each for each in FLOATS if each != "float32"])
@pytest.mark.parametrize("names", groups(DIFFERENTIABLE))
def test_derivatives_in_other_dtypes(names: Sequence[str], dtype: str) -> None:
    check_gradients(names, dtype)


# -- without the library ---------------------------------------------------------------------------


def with_calls() -> list[str]:
    """Give the operations whose samples the library may compute."""
    found = {
        case.name
        for case in CASES
        if case.float_operands
        and any(node.op.name in TABLE for node in topological(build(case).outputs))
    }
    return [name for name in NAMES if name in found]


@pytest.mark.full
@pytest.mark.parametrize("names", groups(with_calls()))
def test_without_the_library(names: Sequence[str]) -> None:
    with config(onednn="none"):
        check_values(names, "float32")
        check_gradients(names, "float32")


def test_the_library_is_left_out_where_it_is_switched_off() -> None:
    assert {"conv", "conv_input", "conv_weight", "matmul"} <= set(with_calls())
    case = next(case for case in CASES if case.name == "conv")
    with config(onednn="none"):
        built = build(case)
        plan = NativeExecutor(Graph(built.inputs, built.outputs)).compile(built.env)
    assert not any(isinstance(step, CallStep) for step in plan.steps)
