"""Size rules of shapes: broadcasting, reshaping, joining and splitting.

A rule returns sizes. What must hold and is decided to fail raises DimError; what depends on the
sizes is recorded as a guard (see guards.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.dims.arithmetic import product, total
from symgraph.dims.core import Size, as_size, is_anonymous, is_symbol, polynomial, terms_of
from symgraph.dims.decide import divides, equal, less
from symgraph.dims.extrema import maximum
from symgraph.dims.guards import (
    for_every,
    require_divides,
    require_equal,
    require_less_equal,
)
from symgraph.dims.polynomial import exact_quotient
from symgraph.dims.walk import free
from symgraph.errors import DimError

Shape = tuple[Size, ...]


def show_shape(shape: Sequence[Size]) -> str:
    """A shape as Python writes a tuple.

    >>> show_shape((3,))
    '(3,)'
    """
    return f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"


def broadcast_shapes(*shapes: Sequence[Size]) -> Shape:
    """The common shape of operands, aligned at the right as in NumPy.

    A 1 gives way to the other size. Sizes that may differ are taken to be equal and a guard is
    recorded: nothing is ever broadcast that was not seen to be while building. Raises DimError
    when two sizes differ for all admissible values.

    >>> broadcast_shapes((4, 1), (3,))
    (4, 3)
    """
    if not shapes:
        return ()
    result = tuple(shapes[0])
    for shape in shapes[1:]:
        other = tuple(shape)
        if result == () or other == ():
            result = result or other
        elif len(result) != len(other) or any(a is not b for a, b in zip(result, other)):
            result = _broadcast(result, other)
    return result


def _broadcast(left: Shape, right: Shape) -> Shape:
    rank = max(len(left), len(right))
    a = (1,) * (rank - len(left)) + left
    b = (1,) * (rank - len(right)) + right
    return tuple(_common(x, y, axis - rank, left, right) for axis, (x, y) in enumerate(zip(a, b)))


def _common(a: Size, b: Size, axis: int, left: Shape, right: Shape) -> Size:
    if a is b:
        return a
    if type(a) is int and a == 1:
        return b
    if type(b) is int and b == 1:
        return a
    same = equal(a, b)
    if same is False:
        raise DimError(
            f"cannot broadcast {show_shape(left)} with {show_shape(right)}: axis {axis} has "
            f"{a} != {b}{for_every(a, b)}, and neither is 1.",
            fix=f"make axis {axis} equal, or insert an axis of length 1",
        )
    if same is None:
        why = f"broadcast of {show_shape(left)} with {show_shape(right)}, axis {axis}"
        require_equal(a, b, why)
    return preferred(a, b)


def preferred(a: Size, b: Size) -> Size:
    """Of two sizes that are equal: the number, else the named one, else the anonymous one."""
    return a if _vagueness(a) <= _vagueness(b) else b


def _vagueness(size: Size) -> int:
    if type(size) is int:
        return 0
    nameless = 2 if any(is_anonymous(symbol) for symbol in free(size)) else 0
    return nameless + (1 if is_symbol(size) else 2)


def reshape(shape: Sequence[Size], new_shape: Sequence[Size]) -> Shape:
    """The sizes of `new_shape`, in which one -1 stands for what is left.

    Raises DimError when the number of elements cannot fit; records a guard when it depends.

    >>> reshape((4, 6), (3, -1))
    (3, 8)
    """
    old = tuple(as_size(size, "a size of a shape") for size in shape)
    new = tuple(as_size(size, "a size of the new shape") for size in new_shape)
    unknown = [axis for axis, size in enumerate(new) if type(size) is int and size == -1]
    for size in new:
        negative = size < -1 if type(size) is int else not is_symbol(size) and less(size, 0)
        if negative:
            raise DimError(f"reshape to {show_shape(new)}: the size {size} is negative.")
    if len(unknown) > 1:
        raise DimError(
            f"reshape to {show_shape(new)}: only one size can be -1, not {len(unknown)}."
        )
    elements = product(old)
    why = f"reshape of {show_shape(old)} to {show_shape(new)}"
    if not unknown:
        count = product(new)
        if equal(elements, count) is False:
            raise DimError(
                f"{why}: the number of elements differs: {elements} != {count}"
                f"{for_every(elements, count)}.",
                fix="use -1 for one size, or sizes with the same product",
            )
        require_equal(elements, count, why)
        return new
    axis = unknown[0]
    rest = product(new[:axis] + new[axis + 1 :])
    return (*new[:axis], _left_over(elements, rest, why), *new[axis + 1 :])


def _left_over(elements: Size, rest: Size, why: str) -> Size:
    if type(rest) is int and rest > 0 and type(elements) is int and elements % rest == 0:
        return elements // rest
    if equal(rest, 0):
        raise DimError(f"{why}: -1 cannot be found, because the other sizes have the product 0.")
    if type(rest) is not int:
        quotient = exact_quotient(terms_of(elements), terms_of(rest))
        if quotient is not None:
            return polynomial(quotient)
        require_less_equal(1, rest, why)
    if divides(rest, elements) is False:
        raise DimError(
            f"{why}: {elements} elements are no multiple of {rest}{for_every(elements, rest)}.",
            fix="the sizes beside -1 must divide the number of elements",
        )
    positive = rest if type(rest) is int else maximum(rest, 1)
    require_divides(positive, elements, why)
    return elements // positive


def concat_sizes(sizes: Sequence[Size]) -> Size:
    """The size of the axis along which arrays are joined: the sum.

    >>> concat_sizes((2, 3))
    5
    """
    return total(sizes)


def split_sizes(size: Size, parts: int | Sequence[Size]) -> Shape:
    """The sizes of the pieces of an axis: `parts` equal ones, or the given ones.

    Raises DimError (or records a guard) unless `parts` divides the size, or the given ones add up
    to it.

    >>> split_sizes(6, 3), split_sizes(6, (1, 5))
    ((2, 2, 2), (1, 5))
    """
    if isinstance(parts, Sequence):
        pieces = tuple(as_size(piece, "the size of a piece") for piece in parts)
        why = f"split of {size} into pieces of {show_shape(pieces)}"
        for piece in pieces:
            require_less_equal(0, piece, why)
        require_equal(total(pieces), size, why)
        return pieces
    count = as_size(parts, "the number of pieces")
    if type(count) is not int or count < 1:
        raise DimError(f"the number of pieces must be an int >= 1, not {count}.")
    require_divides(count, size, f"split of {size} into {count} equal pieces")
    return (size // count,) * count
