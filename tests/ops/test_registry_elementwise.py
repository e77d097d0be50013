"""Every elementwise operation at many sizes, on strided and broadcast arrays, and at extremes.

Generated from the registry: each operation that a sample builds is run on operands of its dtypes.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from symgraph.graph.dtypes import (
    ALL,
    COMPLEX,
    INTEGERS,
    is_complex,
    is_float,
    is_integer,
    numpy_dtype,
)
from symgraph.graph.elementwise import Elementwise, accepts
from symgraph.graph.index import Compute, evaluate
from symgraph.graph.leaves import tensor
from symgraph.graph.node import make
from symgraph.graph.op import Op
from symgraph.graph.registry import OPS, F
from symgraph.graph.samples import Arg
from tests.ops.registry_cases import FLOATS, NAMES, ORACLES, instances, watch_into, widened
from tests.tolerances import SMALLEST, assert_close, class_of

Dtypes = tuple[str, ...]

SIZES = (0, 1, 17, 33, 1025)
BIG_SIZES = (2, 31, 32, 63, 64, 65, 127, 128, 129, 4097, 100_003)

# operations whose value at extremes depends on the machine, and what is left out
UNDEFINED: Mapping[str, str] = {
    "cast": "a float that does not fit into an integer gives what the machine gives",
}
# operations that are documented for finite operands only: infinities and NaN are left out
FINITE_ONLY: Mapping[str, str] = {
    "binary_cross_entropy_with_logits": "an infinite logit times a target of 0 has no limit",
    "betaln": "of two infinite operands it has no limit",
}

# operations whose oracle takes long for each element: mpmath
SLOW_ORACLES = (
    "gelu", "hardsigmoid", "mish", "tanhshrink", "logit", "sinc", "exprel", "inverse_mills",
)  # fmt: skip

ELEMENTWISE = [name for name in NAMES if name in OPS and issubclass(OPS[name], Elementwise)]


def signatures(op: Op, dtypes: Dtypes, whole: bool) -> list[Dtypes]:
    """Give the dtypes of operands to run: the sample's own, and others of the same kind."""
    if any(is_float(dtype) for dtype in dtypes):
        kinds: Sequence[str] = FLOATS
        kind = is_float
    elif any(is_integer(dtype) for dtype in dtypes):
        kinds = INTEGERS if whole else ("int8", "uint16", "int64")
        kind = is_integer
    else:
        return [dtypes]
    return [tuple(new if kind(dtype) else dtype for dtype in dtypes) for new in kinds]


REAL = tuple(dtype for dtype in ALL if dtype not in COMPLEX)


def plans(whole: bool = False) -> list[Any]:
    """Give every elementwise operation with every signature of dtypes it is run with."""
    made: dict[str, Any] = {}
    for name in ELEMENTWISE:
        for number, (op, node) in enumerate(instances(name)):
            own = tuple(operand.dtype for operand in node.inputs)
            if any(map(is_complex, own)):  # they have no loops: test_registry.py
                continue
            for dtypes in [own, *signatures(op, own, whole)]:
                label = f"{name}{number or ''}:{','.join(dtypes)}"
                made[label] = pytest.param(op, dtypes, id=label)
    for name in ELEMENTWISE:  # samples of one kind of dtype stand for the kinds it takes
        kind = OPS[name].takes  # type: ignore[attr-defined]
        for dtype in REAL if kind == "any" and name not in ("where", "cast") else ():
            arity = len(instances(name)[0][1].inputs)
            label = f"{name}:{','.join([dtype] * arity)}"
            assert accepts(kind, dtype)
            made.setdefault(label, pytest.param(instances(name)[0][0], (dtype,) * arity, id=label))
    return list(made.values())


PLANS = plans()
WHOLE = plans(whole=True)


def run(op: Op, arrays: Sequence[Any]) -> Any:
    """Compute an operation through the graph, with the inferred type checked."""
    inputs = [tensor(f"x{i}", a.shape, str(a.dtype)) for i, a in enumerate(arrays)]
    node = make(op, *inputs)
    return watch_into({}, [node], dict(zip(inputs, arrays)), {})[0]


def check(op: Op, arrays: Sequence[Any], what: str) -> None:
    """Compare an operation with its oracle, and its index expression with both."""
    expected = ORACLES[op.name](op, *widened(arrays))
    kind = class_of(op.name)
    before = [array.copy() for array in arrays]
    assert_close(run(op, arrays), expected, kind, f"{op} {what}")
    for array, copy in zip(arrays, before):
        assert array.tobytes() == copy.tobytes(), f"{op} writes into its operand"


def draw(op: Op, dtypes: Dtypes, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Draw operands from where the operation is smooth."""
    rng = np.random.default_rng(zlib.crc32(repr((op, dtypes)).encode()))
    ranges = type(op).domain  # type: ignore[attr-defined]
    if len(ranges) < len(dtypes):
        ranges = ranges * len(dtypes)
    return [
        Arg(shape, dtype, low, high).draw(rng, {})
        for shape, dtype, (low, high) in zip(shapes, dtypes, ranges)
    ]


@pytest.mark.parametrize(("op", "dtypes"), PLANS)
def test_sizes(op: Op, dtypes: Dtypes) -> None:
    for size in SIZES:
        check(op, draw(op, dtypes, [(size,)] * len(dtypes)), f"size {size}")


@pytest.mark.full
@pytest.mark.parametrize(("op", "dtypes"), WHOLE)
def test_more_sizes(op: Op, dtypes: Dtypes) -> None:
    for size in SIZES + BIG_SIZES[: 6 if op.name in SLOW_ORACLES else None]:
        check(op, draw(op, dtypes, [(size,)] * len(dtypes)), f"size {size}")


@pytest.mark.parametrize(("op", "dtypes"), PLANS)
def test_strided_and_broadcast(op: Op, dtypes: Dtypes) -> None:
    big = draw(op, dtypes, [(7, 10)] * len(dtypes))
    check(op, [x[::2, ::-3] for x in big], "every second row, backwards")
    check(op, [x.T if i % 2 else x[:, :7].T.copy()[:7] for i, x in enumerate(_square(big))], "T")
    check(op, [np.broadcast_to(x[:1], (4, 10)) for x in big], "stride 0")
    shapes = [(3, 1), (5,), (2, 1, 1)]
    if len(dtypes) > 1:
        check(op, draw(op, dtypes, shapes[: len(dtypes)]), "broadcast")
        check(op, draw(op, dtypes, [(3, 4), (), (4,)][: len(dtypes)]), "scalar operand")
        check(op, draw(op, dtypes, [(3, 0), (1, 1), (1,)][: len(dtypes)]), "broadcast to nothing")


def _square(arrays: Sequence[Any]) -> list[Any]:
    return [array[:7, :7] for array in arrays]


@pytest.mark.parametrize(("op", "dtypes"), PLANS)
def test_extremes(op: Op, dtypes: Dtypes) -> None:
    if op.name in UNDEFINED and is_float(dtypes[0]) and is_integer(op.dtype):  # type: ignore[attr-defined]
        return
    arrays = extremes(op, dtypes)
    check(op, arrays, "extremes")
    expansion = op.expand(F, *[tensor(None, a.shape, str(a.dtype)) for a in arrays])
    assert isinstance(expansion, Compute)
    (found,) = evaluate(expansion, arrays, {})
    expected = ORACLES[op.name](op, *widened(arrays))
    assert_close(found, expected, class_of(op.name), f"{op} expanded, extremes")


def extremes(op: Op, dtypes: Dtypes) -> list[Any]:
    """Give all combinations of extreme values, as one vector for each operand."""
    few = len(dtypes) > 2
    columns = [extreme_values(dtype, few) for dtype in dtypes]
    if op.name in FINITE_ONLY:
        columns = [[value for value in column if np.isfinite(value)] for column in columns]
    if op.name.endswith("shift"):
        columns[1] = [value for value in columns[1] if value >= 0]
    if op.name == "pow" and is_integer(dtypes[1]):
        columns[1] = [value for value in columns[1] if value < 300]
    rows = list(itertools.product(*columns))
    return [np.array(column, numpy_dtype(dtype)) for column, dtype in zip(zip(*rows), dtypes)]


def extreme_values(dtype: str, few: bool = False) -> list[Any]:
    """Give the values at which functions go wrong."""
    if dtype == "bool":
        return [False, True]
    if is_integer(dtype):
        limits = np.iinfo(dtype)
        low = [] if dtype.startswith("u") else [-1, -2, -7, int(limits.min)]
        return [0, 1, 2, 3, 7, 8, 31, 63, 64, int(limits.max), *low]
    tiny = SMALLEST[dtype]
    inf, nan = float("inf"), float("nan")
    if few:
        return [0.0, 1.0, -1.0, inf, -inf, nan]
    positive = [0.0, tiny / 4, tiny, 1e-4, 0.5, 1.0, 1.5, 2.0, 3.0, 20.0, 90.0, 1e4, inf]
    return [*positive, *(-value for value in positive), nan]
