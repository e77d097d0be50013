"""Library calls: an operation at concrete sizes as primitives of oneDNN, with what they need.

Each operation has one function that takes its arrays as `Array`s (dims, dtype, strides) and gives
the calls in order. A call whose primitive wants another layout is preceded or followed by a
reorder through scratch memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from symgraph.backends.cpu.onednn import library, primitives
from symgraph.backends.cpu.onednn.calls import Primitive
from symgraph.backends.cpu.onednn.descriptors import Descriptor, channels_last
from symgraph.backends.cpu.onednn.library import UnimplementedError
from symgraph.backends.cpu.onednn.primitives import Window
from symgraph.dims import Dim
from symgraph.dims import evaluate as evaluate_size
from symgraph.errors import BackendError
from symgraph.graph.node import Value
from symgraph.graph.op import Op

DTYPES = ("float32", "bfloat16")
SMALL_BATCH = 64


@dataclass(frozen=True)
class Array:
    """An operand at concrete sizes."""

    dims: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...]

    @property
    def empty(self) -> bool:
        """Whether it has no elements."""
        return 0 in self.dims

    def descriptor(self) -> Descriptor:
        """Describe it to the library."""
        return Descriptor(self.dims, self.dtype, self.strides)

    def innermost(self) -> Descriptor:
        """Describe a copy with the channels innermost."""
        return Descriptor(self.dims, self.dtype, channels_last(self.dims))

    def any(self) -> Descriptor:
        """Describe it with the layout left open."""
        return Descriptor(self.dims, self.dtype)


Arrays = tuple[Array, ...]
Fixed = tuple[bool, ...]  # which operands are the same in every call


@dataclass(frozen=True)
class Use:
    """One primitive: which operand, result or scratch stands in each role."""

    primitive: Primitive
    roles: Mapping[str, int]  # operands 0.., then results, then scratch


@dataclass
class Prepared:
    """The primitives of one library call, in order, and the bytes of its scratch memory."""

    uses: list[Use] = field(default_factory=list)
    scratch: list[int] = field(default_factory=list)
    clear: bool = False  # nothing is summed: the result is zero

    @property
    def implementation(self) -> str:
        """What the library runs."""
        return ", ".join(one.primitive.implementation for one in self.uses)


def prepare(
    op: Op,
    arrays: Sequence[Array],
    result: Array,
    fixed: Sequence[bool] = (),
    threads: int = 0,
) -> Prepared:
    """Give the primitives of an operation. Raises `BackendError` where the library has none.

    `fixed` tells which operands are the same in every call: they may be reordered for it once. The
    calls run with so many threads (0: all) as the library is set to now.
    """
    if result.empty:
        return Prepared()
    if any(one.empty for one in arrays):
        return Prepared(clear=True)
    fixed = tuple(fixed) or (False,) * len(arrays)
    return _prepared(op, tuple(arrays), result, fixed, threads)


@lru_cache(512)
def _prepared(op: Op, arrays: Arrays, result: Array, fixed: Fixed, threads: int) -> Prepared:
    return TABLE[op.name](op, arrays, result, fixed)


def takes(value: Value, env: Mapping[Dim, int]) -> bool:
    """Tell whether the library computes an operation well; `env` has the sizes to try."""
    if value.op.name not in TABLE or library.status().problem:
        return False
    types = [one.tensor for one in (*value.inputs, value)]
    if any(one.dtype not in DTYPES for one in types) or any(one.ndim < 2 for one in types):
        return False
    dims = [
        tuple(s if isinstance(s, int) else evaluate_size(s, env) for s in one.shape)
        for one in types
    ]
    if any(0 in each for each in dims):
        return True
    arrays = [_array(each, one.dtype) for each, one in zip(dims, types)]
    try:
        found = prepare(value.op.at(env), arrays[:-1], arrays[-1])
    except BackendError:
        return False
    return not any(use.primitive.is_reference for use in found.uses)


def _array(dims: tuple[int, ...], dtype: str) -> Array:
    strides, step = [1] * len(dims), 1
    for d in reversed(range(len(dims))):
        strides[d] = step
        step *= dims[d]
    return Array(dims, dtype, tuple(strides))


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
    x, w = arrays
    w = _grouped(w, op.groups)
    made = _fastest(
        lambda src, dst: primitives.convolution(src, w.any(), None, dst, _window(op)), x, result
    )
    return _with_reorders(made, {"src": (0, x), "weights": (1, w)}, {"dst": (2, result)})


def _conv_input(op: Any, arrays: Arrays, result: Array, fixed: Fixed) -> Prepared:
    g, w = arrays
    w = _grouped(w, op.groups)
    made = _fastest(
        lambda g, x: primitives.convolution_backward_data(x, w.any(), g, _window(op)), g, result
    )
    return _with_reorders(made, {"diff_dst": (0, g), "weights": (1, w)}, {"diff_src": (2, result)})


def _conv_weight(op: Any, arrays: Arrays, result: Array, fixed: Fixed) -> Prepared:
    x, g = arrays
    filters = _grouped(result, op.groups)
    made = _fastest(
        lambda x, g: primitives.convolution_backward_weights(
            x, filters.any(), None, g, _window(op)
        ),
        x,
        g,
    )
    return _with_reorders(made, {"src": (0, x), "diff_dst": (1, g)}, {"diff_weights": (2, filters)})


def _fastest(make: Callable[[Descriptor, Descriptor], Primitive], a: Array, b: Array) -> Primitive:
    """Take the first layouts of two images for which the library has more than plain loops.

    As they lie; with the channels innermost; as the library likes.
    """
    pairs = [(one.descriptor(), one.innermost(), one.any()) for one in (a, b)]
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
    x, y = arrays
    if _is_outer(x, y, result):
        return _outer(x, y, result)
    rank = max(len(x.dims), len(y.dims))
    x, y, result = (_ranked(one, rank) for one in (x, y, result))
    weights = y.any() if fixed[1] else y.descriptor()
    made = primitives.matmul(x.descriptor(), weights, None, result.descriptor())
    return _with_reorders(made, {"src": (0, x), "weights": (1, y)}, {"dst": (2, result)})


def _is_outer(x: Array, y: Array, result: Array) -> bool:
    """Tell whether a product is a gradient of weights from a small batch, in float32.

    The library's `matmul` takes up to three times as long for these as its inner product's
    gradient (9216 x 32 times 32 x 4096: 24.5 against 9.0 ms; of a batch of 128: 40 and 38).
    """
    if result.dtype != "float32" or len(x.dims) != 2 or len(y.dims) != 2:
        return False
    turned = x.strides == (1, x.dims[0])
    plain = y.strides == (y.dims[1], 1) and result.strides == (result.dims[1], 1)
    return turned and plain and x.dims[1] <= SMALL_BATCH


def _outer(x: Array, y: Array, result: Array) -> Prepared:
    rows = Array(x.dims[::-1], x.dtype, x.strides[::-1])
    turned = Array(result.dims[::-1], result.dtype, result.strides[::-1])
    made = primitives.inner_product_backward_weights(
        rows.descriptor(), turned.descriptor(), None, y.descriptor()
    )
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
    "conv_input": _conv_input,
    "conv_weight": _conv_weight,
    "matmul": _matmul,
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

    for role, (number, own) in given.items():
        wanted, lies = made.arguments[role], own.descriptor()
        roles[role] = number
        if wanted != lies:
            roles[role] = scratch(wanted.size)
            moved = primitives.reorder(lies, wanted)
            found.uses.append(_use(moved, {"src": number, "dst": roles[role]}, scratch))
    for role, (number, own) in results.items():
        wanted, lies = made.arguments[role], own.descriptor()
        roles[role] = number
        if wanted != lies:
            roles[role] = scratch(wanted.size)
            moved = primitives.reorder(wanted, lies)
            after.append(_use(moved, {"src": roles[role], "dst": number}, scratch))
    found.uses.append(_use(made, roles, scratch))
    found.uses.extend(after)
    return found


def _use(made: Primitive, roles: dict[str, int], scratch: Callable[[int], int]) -> Use:
    needed = made.scratchpad
    if needed is not None:
        roles = {**roles, "scratchpad": scratch(needed.size)}
    return Use(made, roles)
