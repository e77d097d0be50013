"""Every operation and composite against its oracle, its types, its expansion and its derivatives.

All tests are generated from the registries, so that nothing is added untested:
`pytest tests/ops/test_registry.py -k conv` runs one operation, `-k "conv:stride2"` one sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from symgraph.dims import dim, equal
from symgraph.errors import ArgumentError, ArgumentTypeError, ShapeError, SymgraphError
from symgraph.graph.dtypes import has_gradient, is_float
from symgraph.graph.index import Compute, evaluate
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value, make
from symgraph.graph.onhost import of_complex
from symgraph.graph.op import Op
from symgraph.graph.registry import OPS, F
from symgraph.graph.samples import Bad
from symgraph.graph.types import TensorType, TupleType
from symgraph.graph.walk import topological
from tests.ops.registry_cases import (
    ABOUT_ARGUMENTS,
    BAD,
    BROKEN,
    CASES,
    FLOATS,
    MODULES,
    NAMES,
    NO_DIFFERENCES,
    NO_EXPANSION,
    NO_SYMBOLIC_SIZE,
    REFUSED_DTYPES,
    STRUCTURE,
    Built,
    Case,
    as_list,
    build,
    chosen,
    declare,
    instances,
    random_like,
    results,
    shape_of,
    watch_into,
    widened,
)
from tests.tolerances import DIFFERENCE, STEP, assert_close

SYMBOLIC = [case for case in CASES if case.sample.sizes]
DIFFERENTIABLE = [case for case in CASES if case.checked]


def with_dtypes(
    cases: Sequence[Case], whole: Sequence[str | None], slice: Sequence[str], check: str
) -> list[Any]:
    """Give each sample in every float dtype, or once (None) when it has no floats.

    Daily are all samples of the dtypes in `whole`, and of those in `slice` one of each operation;
    the rest is for `-m full`.
    """
    daily = {dtype: chosen(cases, f"{check}:{dtype}") for dtype in slice}
    return [
        pytest.param(
            case,
            dtype,
            id=f"{case.id}:{dtype or 'as_is'}",
            marks=()
            if dtype in whole or case.id in daily.get(str(dtype), ())
            else pytest.mark.full,
        )
        for case in cases
        for dtype in (case.dtypes if case.float_operands else (None,))
        if (case.name, dtype) not in REFUSED_DTYPES
    ]


def each(cases: Sequence[Case], check: str, whole: bool = True) -> Any:
    """Give every sample; unless `whole` only one of each operation is daily."""
    daily = {case.id for case in cases} if whole else chosen(cases, check)
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(
                case,
                id=f"{case.id}:{check}",
                marks=() if case.id in daily else pytest.mark.full,
            )
            for case in cases
        ],
    )


each_name = pytest.mark.parametrize("name", list(NAMES))


# -- nothing is left untested ----------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_everything_imports(module: str) -> None:
    assert module not in BROKEN, BROKEN[module]


@each_name
def test_has_all_that_is_tested(name: str) -> None:
    own = [case for case in CASES if case.name == name]
    assert own, f"{name} has no samples"
    missing = [case.id for case in own if case.oracle is None]
    assert not missing, f"no oracle in tests/ops/oracle_*.py for {', '.join(missing)}"
    if name not in NO_SYMBOLIC_SIZE:
        assert any(case.sample.sizes for case in own), f"{name}: no sample has a named size"
    if name in OPS and name not in NO_EXPANSION:
        assert OPS[name].expand is not Op.expand, f"{name} has no expand"


@each_name
def test_every_float_operand_has_a_checked_gradient(name: str) -> None:
    if name in NO_DIFFERENCES:
        return
    floats: set[int] = set()
    checked: set[int] = set()
    for case in (case for case in CASES if case.name == name):
        built = build(case, "float64" if case.float_operands else None)
        if name in OPS and not built.nodes():
            continue
        connected = connected_operands(built)
        floats.update(connected)
        checked.update(slot for slot in case.checked if slot in connected)
    assert floats <= checked, f"{name}: no sample checks the gradient of {sorted(floats - checked)}"


def test_what_is_left_out_exists() -> None:
    left_out = [*NO_DIFFERENCES, *NO_EXPANSION, *NO_SYMBOLIC_SIZE, *ABOUT_ARGUMENTS]
    left_out += [name for name, _ in REFUSED_DTYPES]
    if not BROKEN:
        assert set(left_out) <= set(NAMES)
        assert set(STRUCTURE) <= set(OPS)


# -- values and types ------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "dtype"), with_dtypes(CASES, (None, "float32"), FLOATS, "ref"))
def test_ref(case: Case, dtype: str | None) -> None:
    assert_follows_oracle(case, build(case, dtype), dtype)


@pytest.mark.full
@each(SYMBOLIC, "grown")
def test_ref_at_other_sizes(case: Case) -> None:
    """Every named size grows, alone; where a guard then fails, the sample is about that size."""
    for size in case.sample.sizes:
        for number in (17, 33):
            try:
                built = build(case, other_sizes={size: number})
                built.check_guards()
            except ShapeError:
                continue
            assert_follows_oracle(case, built, None)


def assert_follows_oracle(case: Case, built: Built, dtype: str | None) -> None:
    assert case.oracle is not None, f"{case.id} has no oracle"
    seen = built.run()
    kind = case.kind
    if case.composite:
        expected = results(case.oracle(*widened(built.arrays)))
        assert len(expected) == len(built.outputs), f"the oracle gives {len(expected)} results"
        for output, wanted in zip(built.outputs, expected):
            assert_close(seen[output], wanted, kind, case.id)
        return
    assert_builds(built, dtype)
    for node in built.nodes():
        operands = [seen[operand] for operand in node.inputs]
        expected = results(case.oracle(node.op.at(built.env), *widened(operands)))
        found = results(seen[node])
        assert len(found) == len(expected), f"the oracle gives {len(expected)} results"
        for array, wanted in zip(found, expected):
            assert_close(array, wanted, kind, f"{case.id} {node.op}")


def assert_builds(built: Built, dtype: str | None) -> None:
    """A sample must build its operation: in other dtypes than its own a cast may vanish."""
    declared = {operand.dtype for operand in built.case.sample.args if is_float(operand.dtype)}
    if dtype is None or dtype in declared:
        assert built.nodes(), f"{built.case.id} does not build `{built.case.name}`"


@each(SYMBOLIC, "symbolic", whole=False)
def test_symbolic_sizes_mean_the_same(case: Case) -> None:
    symbolic, concrete = build(case), build(case, symbolic=False)
    assert len(symbolic.outputs) == len(concrete.outputs)
    for one, other in zip(symbolic.outputs, concrete.outputs):
        assert one.dtype == other.dtype
        assert_same(symbolic.run()[one], concrete.run()[other])
        assert shape_of(one.tensor, symbolic.env) == shape_of(other.tensor, concrete.env)


def assert_same(first: Any, second: Any) -> None:
    assert first.dtype == second.dtype
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("case", "dtype"),
    with_dtypes(
        [case for case in CASES if not case.composite],
        (None, "float32"),
        ("bfloat16",),
        "expand",
    ),
)
def test_expand(case: Case, dtype: str | None) -> None:
    built = build(case, dtype)
    seen = built.run()
    kind = case.kind
    for node in built.nodes():
        if node.op.name in NO_EXPANSION or of_complex(node):
            continue
        fresh = [tensor(f"x{i}", x.shape, x.dtype) for i, x in enumerate(node.inputs)]
        arrays = [seen[operand] for operand in node.inputs]
        expansion = node.op.expand(F, *fresh)
        if isinstance(expansion, Compute):
            found = evaluate(expansion, arrays, built.env)
        else:
            values = as_list(expansion)
            inside = [inner for inner in topological(values) if inner.op == node.op]
            assert not inside, f"{node.op} expands into itself"
            found = interpret(values, dict(zip(fresh, arrays)), built.env)
        expected = results(seen[node])
        assert len(found) == len(expected), f"{node.op}: expand gives {len(found)} results"
        types = node.type.types if isinstance(node.type, TupleType) else (node.type,)
        for array, wanted, type in zip(found, expected, types):
            assert str(array.dtype) == type.dtype, f"{node.op}: expand gives {array.dtype}"
            assert_close(array, wanted, "exact" if kind == "exact" else kind, f"{case.id} expand")


# -- derivatives -----------------------------------------------------------------------------------


def connected_operands(built: Built) -> list[int]:
    """Give the float operands that a float result depends on; others only lend their shape."""
    outputs = [output for output in built.outputs if has_gradient(output.dtype)]
    needed = set(topological(outputs))
    return [slot for slot in built.case.float_operands if built.inputs[slot] in needed]


def checked_operands(built: Built) -> list[int]:
    """Give the operands to differentiate by: those the sample names, else all connected ones."""
    if built.case.sample.gradient is not None:
        return list(built.case.sample.gradient)
    return connected_operands(built)


def gradients(built: Built, rng: np.random.Generator) -> tuple[list[Value], dict[Value, Any]]:
    """Pull random cotangents of all float outputs back to the checked operands."""
    outputs = [output for output in built.outputs if has_gradient(output.dtype)]
    cotangents = [tensor(f"g{i}", out.shape, out.dtype) for i, out in enumerate(outputs)]
    wrt = [built.inputs[slot] for slot in checked_operands(built)]
    if not wrt or not outputs:
        assert built.case.sample.gradient is None, f"{built.case.id} has no float result"
        return [], {}
    pulled = F.vjp(outputs, wrt, cotangents)
    feeds = {g: random_like(rng, g.tensor, built.env) for g in cotangents}
    return pulled, feeds


@pytest.mark.parametrize(
    ("case", "dtype"),
    with_dtypes(DIFFERENTIABLE, (None,), ("float32", "float16"), "cotangents"),
)
def test_cotangents_have_the_operands_types(case: Case, dtype: str | None) -> None:
    built = build(case, dtype)
    pulled, feeds = gradients(built, np.random.default_rng(case.seed))
    for slot, cotangent in zip(checked_operands(built), pulled):
        operand = built.inputs[slot]
        assert cotangent.dtype == operand.dtype
        assert cotangent.ndim == operand.ndim
        assert all(equal(a, b) is not False for a, b in zip(cotangent.shape, operand.shape))
    arrays = watch_into({}, pulled, {**built.feeds, **feeds}, built.env)
    for slot, array in zip(checked_operands(built), arrays):
        assert array.shape == built.arrays[slot].shape


@each(DIFFERENTIABLE, "vjp")
def test_vjp(case: Case) -> None:
    rng = np.random.default_rng(case.seed)
    built = build(case, "float64")
    pulled, feeds = gradients(built, rng)
    if pulled:
        outputs = [output for output in built.outputs if has_gradient(output.dtype)]
        check_differences(built, outputs, list(feeds.values()), pulled, feeds, rng, order=1)


@each(DIFFERENTIABLE, "order2", whole=False)
def test_second_order(case: Case) -> None:
    rng = np.random.default_rng(case.seed)
    built = build(case, "float64")
    pulled, feeds = gradients(built, rng)
    if not pulled:
        return
    weights = [tensor(f"r{i}", p.shape, p.dtype) for i, p in enumerate(pulled)]
    numbers = [random_like(rng, w.tensor, built.env) for w in weights]
    wrt = [built.inputs[slot] for slot in checked_operands(built)]
    second = F.vjp(pulled, wrt, weights, missing="zero")
    feeds = {**feeds, **dict(zip(weights, numbers))}
    check_differences(built, pulled, numbers, second, feeds, rng, order=2)


def check_differences(
    built: Built,
    outputs: Sequence[Value],
    weights: Sequence[Any],
    derivatives: Sequence[Value],
    feeds: dict[Value, Any],
    rng: np.random.Generator,
    order: int,
) -> None:
    """Compare <derivative, direction> with central differences of sum <output, weight>.

    Of complex numbers <a, b> is the real part of conj(a) b: the parts are like two real numbers.
    """
    base = {**built.feeds, **feeds}
    analytic = interpret(derivatives, base, built.env)

    def total(slot: int, array: Any) -> float:
        found = interpret(outputs, {**base, built.inputs[slot]: array}, built.env)
        return sum(float(np.sum((np.conj(a) * w).real)) for a, w in zip(found, weights))

    for slot, derivative in zip(checked_operands(built), analytic):
        assert np.all(np.isfinite(derivative)), f"{built.case.id}: operand {slot}: not finite"
        x = built.arrays[slot]
        assert derivative.shape == x.shape
        for number in range(3):
            direction = random_like(rng, TensorType(str(x.dtype), x.shape), {})
            if number == 2:  # one element alone: sums hide little errors
                direction = np.where(np.arange(x.size).reshape(x.shape) == x.size // 2, 1.0, 0.0)
            above = total(slot, x + STEP * direction)
            below = total(slot, x - STEP * direction)
            expected = (above - below) / (2 * STEP)
            found = float(np.sum((np.conj(derivative) * direction).real))
            scale = float(np.sum(np.abs(derivative * direction))) + abs(above) * 1e-3 + 1e-3
            assert abs(found - expected) <= DIFFERENCE[order] * scale, (
                f"{built.case.id}: operand {slot}: gradient gives {found}, "
                f"differences give {expected}"
            )


# -- errors and identity ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bad"), [pytest.param(name, bad, id=label) for name, label, bad in BAD]
)
def test_bad(name: str, bad: Bad) -> None:
    names = {size for each in bad.args for size in each.shape if isinstance(size, str)}
    operands = declare(bad.args, {size: dim(size) for size in names})
    with pytest.raises(bad.error, match=bad.match or None) as info:
        bad.call(*operands)
    text = str(info.value)
    assert info.type is bad.error or bad.error is not SymgraphError, "name the exact class"
    assert name.rstrip("_") in text, f"the message does not name `{name}`: {text}"
    # an argument is wrong in the call itself; an operand was made elsewhere: the line says where
    about_argument = isinstance(info.value, ArgumentError | ArgumentTypeError)
    if operands and not about_argument and name not in ABOUT_ARGUMENTS:
        assert "registry_cases.py:" in text or "test_registry.py:" in text, (
            f"the message does not show the user's line: {text}"
        )


@pytest.mark.parametrize("name", [name for name in NAMES if name in OPS])
def test_equal_attributes_are_one_node_and_different_ones_are_not(name: str) -> None:
    found = instances(name)
    for op, node in found:
        twin = replace(op)  # type: ignore[type-var]
        assert twin == op
        assert hash(twin) == hash(op)
        assert repr(twin) == repr(op)
        assert name in repr(op)
        assert make(twin, *node.inputs) is node
        for other in changed(op):
            assert other != op, f"{other} and {op} are one"
            assert repr(other) != repr(op), f"an attribute is not shown in {op}"
    assert len({op.key for op, _ in found}) == len(found)
    assert len({repr(op) for op, _ in found}) == len(found)


def changed(op: Op) -> list[Op]:
    """Give the operation with one attribute changed, for each attribute that may take another."""
    variants = []
    for part in fields(op):  # type: ignore[arg-type]
        value = getattr(op, part.name)
        if isinstance(value, bool):
            other: Any = not value
        elif isinstance(value, int | float):
            other = value + 1 if math.isfinite(value) else 0.5
        else:
            continue
        try:
            variants.append(replace(op, **{part.name: other}))  # type: ignore[type-var]
        except SymgraphError:
            continue  # the attribute takes no other value
    return variants
