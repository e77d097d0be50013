"""Operations as primitives of oneDNN, with the reorders that they need.

Each operation has one function that takes its arrays and gives the primitives in order. One that
wants another layout is preceded or followed by a reorder through scratch memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from symgraph.backends.arrays import Array, Arrays
from symgraph.backends.cpu.interface import Fixed, Prepared, Use
from symgraph.backends.cpu.onednn import library, primitives
from symgraph.backends.cpu.onednn.calls import Primitive
from symgraph.backends.cpu.onednn.descriptors import Descriptor, channels_last
from symgraph.backends.cpu.onednn.library import UnimplementedError
from symgraph.backends.cpu.onednn.primitives import Window
from symgraph.dims import Dim, Size, equal, less_equal
from symgraph.errors import BackendError
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.graph.types import TensorType
from symgraph.lower.program import number

DTYPES = ("float32", "bfloat16")
SMALL_BATCH = 64  # rows from which it pays to copy the weights for one product
LARGE_BATCH = 384  # rows from which the library copies them by itself
ALIASING = (
    256  # floats: rows that lie so far apart, or a multiple, push each other out of the cache
)
PADDING = 16
LONG = 1024  # positions from which a sum makes up for copies of all that is multiplied
FEW = 16  # of a size that is zero, to try what a library has
MOST_TAPS = 16  # along one axis, which loops write out
FACTORS = ("src", "weights", "bias")


def offers(dtypes: Sequence[str]) -> bool:
    """Tell whether oneDNN is there and has these dtypes."""
    return all(one in DTYPES for one in dtypes) and not library.status().problem


def takes(value: Value, env: Mapping[Dim, int]) -> bool:
    """Tell whether oneDNN has more than plain loops, at sizes to try and in plain layouts.

    What slides along one axis of each channel by itself is left to loops: they take in the bias,
    keep one such convolution in rows for the next, and add up all taps of a gradient at once.
    """
    if value.op.name in ("conv", "conv_bias", "conv_input", "conv_weight") and _is_line(value):
        return False
    types = [one.tensor for one in (*value.inputs, value)]
    dims = _sizes(types, env)
    if any(0 in each for each in dims):  # of nothing it has everything: other sizes tell
        env = {size: max(given, FEW) for size, given in env.items()}
        dims = _sizes(types, env)
        if any(size < 1 for each in dims for size in each):
            return True
    arrays = [_plain(each, one.dtype) for each, one in zip(dims, types)]
    unknown = (False,) * len(value.inputs)
    try:
        found = prepare(value.op.at(env), tuple(arrays[:-1]), arrays[-1], unknown, 0)
    except BackendError:
        return False
    return not found.is_reference


def _is_line(value: Value) -> bool:
    """Tell whether a convolution is one of each channel by itself, along one axis."""
    filters = value if value.op.name == "conv_weight" else value.inputs[1]
    outputs, inputs, *kernel = filters.shape
    groups: int = value.op.groups  # type: ignore[attr-defined]
    alone = equal(outputs, groups) is True and equal(inputs, 1) is True
    taps = [size for size in kernel if equal(size, 1) is not True]
    short = all(isinstance(size, int) and size <= MOST_TAPS for size in taps)
    return alone and short and len(taps) <= 1 < len(kernel)


def _sizes(types: Sequence[TensorType], env: Mapping[Dim, int]) -> list[tuple[int, ...]]:
    return [tuple(number(size, env) for size in one.shape) for one in types]


def _plain(dims: tuple[int, ...], dtype: str) -> Array:
    strides, step = [1] * len(dims), 1
    for d in reversed(range(len(dims))):
        strides[d] = step
        step *= dims[d]
    return Array(dims, dtype, tuple(strides))


def reads(op: str, shape: Sequence[Size], strides: Sequence[Size]) -> bool:
    """Tell whether oneDNN reads an operand that lies so: none backwards, factors along an axis.

    It multiplies other factors by plain loops, many times slower than a copy takes.
    """
    if any(less_equal(0, step) is not True for step in strides):
        return False
    known = [step for step in strides[-2:] if isinstance(step, int)]
    return not op.startswith("matmul") or (1 in known and 0 not in known)


@lru_cache(512)
def prepare(op: Op, arrays: Arrays, result: Array, fixed: Fixed, threads: int) -> Prepared:
    """Give the primitives of an operation; they run with so many threads as are set now."""
    return TABLE[op.name](op, arrays, result, fixed)


def _described(one: Array) -> Descriptor:
    return Descriptor(one.dims, one.dtype, one.strides)


def _innermost(one: Array) -> Descriptor:
    """Describe a copy with the channels innermost."""
    return Descriptor(one.dims, one.dtype, channels_last(one.dims))


def _any(one: Array) -> Descriptor:
    """Describe an array with the layout left open."""
    return Descriptor(one.dims, one.dtype)


# -- convolutions ----------------------------------------------------------------------------------


def _window(op: Any) -> Window:
    return Window(tuple(op.stride), tuple(op.padding), tuple(op.dilation))


def _grouped(one: Array, groups: int) -> Array:
    """Give filters with an axis for the groups."""
    if groups == 1:
        return one
    filters, *rest = one.dims
    step, *steps = one.strides
    own = filters // groups
    return Array((groups, own, *rest), one.dtype, (step * own, step, *steps))


def _conv(op: Any, arrays: Arrays, result: Array, fixed: Fixed) -> Prepared:
    x, w, *bias = arrays
    w = _grouped(w, op.groups)
    added = _described(bias[0]) if bias else None
    made = _fastest(
        lambda src, dst: primitives.convolution(src, _any(w), added, dst, _window(op)), x, result
    )
    return _with_reorders(made, _given(x, w, *bias), {"dst": (len(arrays), result)})


def _given(*arrays: Array) -> dict[str, tuple[int, Array]]:
    """Give two factors, and a bias if there is one, by their roles."""
    return {role: (which, one) for which, (role, one) in enumerate(zip(FACTORS, arrays))}


def _conv_input(op: Any, arrays: Arrays, result: Array, fixed: Fixed) -> Prepared:
    g, w = arrays
    w = _grouped(w, op.groups)
    made = _fastest(
        lambda g, x: primitives.convolution_backward_data(x, _any(w), g, _window(op)), g, result
    )
    return _with_reorders(made, {"diff_dst": (0, g), "weights": (1, w)}, {"diff_src": (2, result)})


def _conv_weight(op: Any, arrays: Arrays, result: Array, fixed: Fixed) -> Prepared:
    x, g = arrays
    filters = _grouped(result, op.groups)
    made = _fastest(
        lambda x, g: primitives.convolution_backward_weights(
            x, _any(filters), None, g, _window(op)
        ),
        x,
        g,
    )
    return _with_reorders(made, {"src": (0, x), "diff_dst": (1, g)}, {"diff_weights": (2, filters)})


def _fastest(make: Callable[[Descriptor, Descriptor], Primitive], a: Array, b: Array) -> Primitive:
    """Take the first layouts of two images for which the library has more than plain loops.

    As they lie; with the channels innermost; as the library likes.
    """
    pairs = [(_described(one), _innermost(one), _any(one)) for one in (a, b)]
    made = None
    for first, second in zip(*pairs):
        try:
            made = make(first, second)
        except UnimplementedError:
            continue
        if not made.is_reference:
            return made
    if made is None:
        raise UnimplementedError("convolution: the library has none for these operands.")
    return made


# -- products --------------------------------------------------------------------------------------


def _matmul(op: Any, arrays: Arrays, result: Array, fixed: Fixed) -> Prepared:
    x, y, *bias = arrays
    if not bias and _is_outer(x, y, result):
        return _outer(x, y, result)
    rank = len(result.dims)
    x, y, result, *bias = (_ranked(one, rank) for one in (x, y, result, *bias))
    weights = _any(y) if fixed[1] else _described(y)
    added = _described(bias[0]) if bias else None
    made = primitives.matmul(_described(x), weights, added, _described(result))
    if made.implementation.startswith("gemm") and _aliases(y, result, fixed[1]):
        made = primitives.matmul(_described(x), _apart(y), added, _described(result))
    return _with_reorders(made, _given(x, y, *bias), {"dst": (len(arrays), result)})


def _aliases(y: Array, result: Array, fixed: bool) -> bool:
    """Tell whether a copy of the weights with rows farther apart makes up for itself.

    The library reads weights of small batches where they lie, and in huge pages rows at powers of
    two share few lines of the cache: half the speed (docs/design.md, "Rows at powers of two").
    """
    *batch, rows, columns = result.dims
    small = rows <= LARGE_BATCH and all(size == 1 for size in batch)
    plain = y.strides[-2:] == (columns, 1) and columns % ALIASING == 0
    return small and plain and (fixed or rows >= SMALL_BATCH)


def _apart(one: Array) -> Descriptor:
    """Describe a copy of one matrix with rows that are farther apart than they are long."""
    *batch, rows, columns = one.dims
    step = columns + PADDING
    return Descriptor(one.dims, one.dtype, (*(rows * step for _ in batch), step, 1))


def _is_outer(x: Array, y: Array, result: Array) -> bool:
    """Tell whether a product is one of a turned matrix by a plain one, as a gradient of weights.

    In float32 the library's `matmul` takes up to twice as long for these as its inner product's
    gradient (docs/design.md, "Gradients of weights").
    """
    if result.dtype != "float32" or len(x.dims) != 2 or len(y.dims) != 2:
        return False
    turned = x.strides == (1, x.dims[0])
    return turned and y.strides == (y.dims[1], 1) and result.strides == (result.dims[1], 1)


def _outer(x: Array, y: Array, result: Array) -> Prepared:
    rows = Array(x.dims[::-1], x.dtype, x.strides[::-1])
    turned = Array(result.dims[::-1], result.dtype, result.strides[::-1])
    made = primitives.inner_product_backward_weights(
        _described(rows), _described(turned), None, _described(y)
    )
    steps = (*rows.strides[:1], *y.strides[:1], *result.strides[:1])
    aliases = any(step % ALIASING == 0 for step in steps) and min(result.dims) >= ALIASING
    if "gemm" in made.implementation and aliases and rows.dims[0] >= LONG:
        first, second, product = (_apart(one) for one in (rows, y, result))
        made = primitives.matmul(first.permute((1, 0)), second, None, product)
        return _with_reorders(made, _given(x, y), {"dst": (2, result)})
    return _with_reorders(
        made, {"src": (0, rows), "diff_dst": (1, y)}, {"diff_weights": (2, turned)}
    )


def _ranked(one: Array, rank: int) -> Array:
    """Give an array with leading axes of size one."""
    missing = rank - len(one.dims)
    step = max((d * s for d, s in zip(one.dims, one.strides)), default=1)
    return Array((1,) * missing + one.dims, one.dtype, (step,) * missing + one.strides)


TABLE: dict[str, Callable[[Any, Arrays, Array, Fixed], Prepared]] = {
    "conv": _conv,
    "conv_bias": _conv,
    "conv_input": _conv_input,
    "conv_weight": _conv_weight,
    "matmul": _matmul,
    "matmul_bias": _matmul,
}


# -- layouts ---------------------------------------------------------------------------------------


def _with_reorders(
    made: Primitive,
    given: Mapping[str, tuple[int, Array]],
    results: Mapping[str, tuple[int, Array]],
) -> Prepared:
    """Put reorders around a primitive where it wants other layouts than there are."""
    found = Prepared()
    first = len(given) + len(results)
    roles: dict[str, int] = {}
    after: list[Use] = []

    def scratch(size: int) -> int:
        found.scratch.append(size)
        return first + len(found.scratch) - 1

    for role, (which, own) in given.items():
        wanted, lies = made.arguments[role], _described(own)
        roles[role] = which
        if wanted != lies:
            roles[role] = scratch(wanted.size)
            moved = primitives.reorder(lies, wanted)
            found.uses.append(_use(moved, {"src": which, "dst": roles[role]}, scratch))
    for role, (which, own) in results.items():
        wanted, lies = made.arguments[role], _described(own)
        roles[role] = which
        if wanted != lies:
            roles[role] = scratch(wanted.size)
            moved = primitives.reorder(wanted, lies)
            after.append(_use(moved, {"src": roles[role], "dst": which}, scratch))
    found.uses.append(_use(made, roles, scratch))
    found.uses.extend(after)
    return found


def _use(made: Primitive, roles: dict[str, int], scratch: Callable[[int], int]) -> Use:
    needed = made.scratchpad
    if needed is not None:
        roles = {**roles, "scratchpad": scratch(needed.size)}
    return Use(made, roles)
