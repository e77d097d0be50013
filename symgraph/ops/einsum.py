"""Sums of products over named axes, taken apart into products of two, which are matrix products.

Which two come first is decided while the graph is built, with sizes of `NOMINAL` for what is
symbolic: of a few operands all orders are compared by how much is multiplied, of more the cheapest
product comes first.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from symgraph.dims import Size, equal, evaluate, free, product
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import compute_dtype
from symgraph.graph.types import same_size

NOMINAL = 64
FEW = 5  # operands of which all orders are compared
Labels = tuple[str, ...]  # letters, and numbers for the axes of an ellipsis, counted from the end


@frozen
class Term:
    """A value whose axes have names, each another."""

    value: Value
    labels: Labels

    def ordered(self, labels: Sequence[str]) -> Value:
        """Give the value with its axes in this order."""
        return F.permute_dims(self.value, [self.labels.index(label) for label in labels])

    def summed(self, keep: Collection[str]) -> Term:
        """Sum over all axes that nobody needs."""
        over = tuple(d for d, label in enumerate(self.labels) if label not in keep)
        if not over:
            return self
        left = tuple(label for label in self.labels if label in keep)
        return Term(cast_to(F.sum(self.value, axis=over), self.value.dtype), left)


_SAMPLES = [
    sample(lambda x, y: F.einsum("ij,jk->ik", x, y), arg(("B", 3)), arg((3, 2)), label="matmul"),
    sample(lambda x, y: F.einsum("bij,bj", x, y), arg(("B", 2, 3)), arg(("B", 3)), label="stack"),
    sample(lambda x: F.einsum("iji->j", x), arg((3, "B", 3)), label="diagonal"),
    sample(lambda x: F.einsum("ji", x), arg((2, "B")), label="turned"),
    sample(
        lambda x, y: F.einsum("...ij, ...j -> ...i", x, y), arg((2, 1, "B", 3)), arg((4, 3)),
        label="ellipsis",
    ),
    sample(
        lambda x, y, z: F.einsum("ab,bc,cd->da", x, y, z), arg((2, "B")), arg(("B", 3)),
        arg((3, 4)), label="chain",
    ),
    sample(lambda x, y: F.einsum("i,i->", x, y), arg(("B",)), arg(("B",)), label="inner"),
    sample(lambda x, y: F.einsum("i,j", x, y), arg(("B",)), arg((0,)), label="outer"),
    sample(
        lambda x, y: F.einsum(x, [0, 1], y, [0, 1], [1]), arg(("B", 2)), arg((1, 2)),
        label="numbers",
    ),
    sample(
        lambda x, y: F.einsum("ij,j->i", x, y), arg((2, 17), "int8"), arg((17,), "int8"),
        label="whole",
    ),
]  # fmt: skip
_BAD = [
    bad(lambda x: F.einsum("ij->ji", x), arg((3,)), match="einsum: `x0` has 1 axes, `ij` 2"),
    bad(
        lambda x, y: F.einsum("ij,jk", x, y), arg((2, 3)), arg((4, 2)),
        match="einsum: axis `j` of `x1` .* 4 != 3",
    ),
    bad(lambda x: F.einsum("ij,jk", x), arg((2, 2)), error=ArgumentError, match="2 operands"),
    bad(lambda x: F.einsum("i->j", x), arg((2,)), error=ArgumentError, match="`j` of the result"),
    bad(lambda x: F.einsum("i->ii", x), arg((2,)), error=ArgumentError, match="twice"),
    bad(lambda x: F.einsum("ii", x), arg((3, 1)), match="einsum: axis `i` .* 1 != 3"),
    bad(lambda x: F.einsum("...i->i", x), arg((2, 2)), error=ArgumentError, match="lacks"),
    bad(lambda x: F.einsum("i->i->i", x), arg((2,)), error=ArgumentError, match="one ->"),
    bad(lambda x: F.einsum("i1", x), arg((2, 2)), error=ArgumentError, match="einsum: `1` is"),
    bad(lambda x: F.einsum("i.", x), arg((2, 2)), error=ArgumentError, match="einsum: `.` is"),
    bad(lambda x: F.einsum(x), arg((2, 2)), error=ArgumentTypeError, match="einsum: takes"),
    bad(
        lambda x: F.einsum("i,i", x, x, optimize=[(0, 2)]), arg((2,)), error=ArgumentError,
        match="einsum: optimize",
    ),
    bad(lambda x: F.einsum("i", x), arg((2,), "bool"), error=DTypeError, match="numbers, not bool"),
]  # fmt: skip


@composite(samples=_SAMPLES, bad=_BAD)
def einsum(subscripts: Any, *operands: Any, optimize: Any = True) -> Value:
    """Sum products over axes that are named alike and stand on the left of `->` only.

    "ij,jk->ik" multiplies matrices; "ii->i" is a diagonal; `...` stands for axes that are
    broadcast. Without `->` the result has `...` and then, in order, the letters that occur once.
    As in NumPy, `einsum(x, [0, 1], y, [1, 2], [0, 2])` names axes by numbers, and an axis of size 1
    is broadcast. With `optimize` the cheapest looking order is taken, without it they go from left
    to right; a list of pairs of positions says it, each product is put at the end.
    Raises `ArgumentError` for what the letters cannot mean, `ShapeError` where sizes differ.

    >>> import symgraph as sg
    >>> sg.einsum("ij,ij->i", sg.constant([[1, 2], [3, 4]]), [[1, 1], [0, 1]]).eval().tolist()
    [3, 4]
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _spelled(subscripts, operands)
    inputs, output = _split(subscripts)
    if len(inputs) != len(operands):
        raise ArgumentError(
            f"einsum: `{subscripts}` is about {len(inputs)} operands, got {len(operands)}.",
            fix="there is one group of letters for each operand",
        )
    if isinstance(optimize, str) and optimize in ("greedy", "optimal"):
        optimize = True  # NumPy's words for how an order is searched
    values = common("einsum", *operands)
    if values[0].dtype == "bool":
        raise DTypeError("einsum: takes numbers, not bool.", fix='cast first: x.cast("int32")')
    named = [_labels(term, value) for term, value in zip(inputs, values)]
    result = _result(output, named)
    sizes = _sizes(values, named)
    terms = [_distinct(value, labels, sizes) for value, labels in zip(values, named)]
    return _contracted(terms, result, sizes, optimize).ordered(result)


# -- what the letters mean -------------------------------------------------------------------------


def _spelled(first: Any, rest: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """Write axes that were named by numbers as letters."""
    given = (first, *rest)
    operands, names = given[: len(given) // 2 * 2 : 2], given[1::2]
    lists = [*names, given[-1]] if len(given) % 2 else [*names]
    if not names or not all(isinstance(one, list | tuple) for one in lists):
        raise ArgumentTypeError(
            "einsum: takes a string and operands, or each operand followed by a list of numbers.",
            fix='einsum("ij,jk->ik", x, y)',
        )
    letters = string.ascii_letters
    texts = []
    for one in lists:
        for number in one:
            if number is not Ellipsis and not (
                isinstance(number, int) and 0 <= number < len(letters)
            ):
                raise ArgumentError(
                    f"einsum: {number!r} names no axis.", fix=f"use 0 to {len(letters) - 1}"
                )
        texts.append("".join("..." if n is Ellipsis else letters[n] for n in one))
    text = ",".join(texts[: len(names)])
    return (f"{text}->{texts[-1]}" if len(given) % 2 else text), operands


def _split(subscripts: str) -> tuple[list[str], str | None]:
    """Give the letters of each operand and of the result, None where they are left out."""
    text = "".join(subscripts.split())
    left, arrow, right = text.partition("->")
    if "->" in right:
        raise ArgumentError(f"einsum: `{subscripts}` has more than one ->.", fix='"ij,jk->ik"')
    for term in (*left.split(","), right):
        plain = term.replace("...", "", 1)
        for letter in plain:
            if letter not in string.ascii_letters:
                raise ArgumentError(
                    f"einsum: `{letter}` is no name of an axis in `{subscripts}`.",
                    fix="use letters, and one ... for axes that are broadcast",
                )
    return left.split(","), right if arrow else None


def _labels(term: str, value: Value) -> Labels:
    """Name the axes of an operand; those of an ellipsis are numbered from the end."""
    before, dots, after = term.partition("...")
    count = len(before) + len(after)
    if count > value.ndim or (not dots and count < value.ndim):
        raise ShapeError(
            f"einsum: `{value.label}` has {value.ndim} axes, `{term}` {count}.",
            details=[value.describe()],
            fix="name each axis, or use ... for the others",
        )
    hidden = [str(number) for number in reversed(range(value.ndim - count))]
    return (*before, *hidden, *after)


def _result(output: str | None, named: Sequence[Labels]) -> Labels:
    """Give the names of the axes of the result."""
    seen = list(itertools.chain.from_iterable(named))
    hidden = sorted({label for label in seen if label.isdigit()}, key=int, reverse=True)
    if output is None:
        return (
            *hidden,
            *sorted(label for label in set(seen) - {*hidden} if seen.count(label) == 1),
        )
    before, dots, after = output.partition("...")
    if hidden and not dots:
        raise ArgumentError("einsum: the result lacks the ... of the operands.", fix='"...->..."')
    letters = [*before, *after]
    for letter in letters:
        if letter not in seen:
            raise ArgumentError(
                f"einsum: `{letter}` of the result names no axis of an operand.",
                fix="an axis of the result comes from an operand",
            )
        if letters.count(letter) > 1:
            raise ArgumentError(
                f"einsum: `{letter}` stands twice in the result.", fix="name each axis once"
            )
    return (*before, *hidden, *after)


def _sizes(values: Sequence[Value], named: Sequence[Labels]) -> Mapping[str, Size]:
    """Give the size of each axis, or raise `ShapeError` where two of one name differ."""
    found: dict[str, Size] = {}
    for value, labels in zip(values, named):
        own: dict[str, Size] = {}
        for size, label in zip(value.shape, labels):
            known = found.setdefault(label, size)
            # within one operand it is a diagonal, which is not broadcast
            alike = equal(own.setdefault(label, size), size) is not False
            if alike and _is_one(known):
                found[label] = size
            elif not alike or (not _is_one(size) and equal(known, size) is False):
                raise ShapeError(
                    f"einsum: axis `{label}` of `{value.label}` has another size than elsewhere: "
                    f"{size} != {known}.",
                    details=operand_lines(values),
                    fix="axes of one name have one size, or 1",
                )
            elif isinstance(size, int) and not _is_one(size):
                found[label] = size
    return found


def _distinct(value: Value, labels: Labels, sizes: Mapping[str, Size]) -> Term:
    """Leave out axes of size 1 that are broadcast, and take diagonals of axes of one name."""
    keep = [not _is_one(n) or _is_one(sizes[label]) for n, label in zip(value.shape, labels)]
    if not all(keep):
        value = F.reshape(value, list(itertools.compress(value.shape, keep)))
    names = list(itertools.compress(labels, keep))
    wanted = [sizes[label] for label in names]
    if not all(same_size(a, b) for a, b in zip(value.shape, wanted)):
        value = F.broadcast_to(value, wanted)  # it is checked when the sizes are known
    for label in dict.fromkeys(names):
        while names.count(label) > 1:
            first = names.index(label)
            second = names.index(label, first + 1)
            value = F.diagonal(value, 0, first, second)
            names = [*(n for d, n in enumerate(names) if d not in (first, second)), label]
    return Term(value, tuple(names))


def _is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


# -- products of two -------------------------------------------------------------------------------


def _contracted(
    terms: list[Term], result: Labels, sizes: Mapping[str, Size], optimize: Any
) -> Term:
    """Multiply pairs until one is left, and sum over what nobody needs as soon as possible."""
    path = _path(optimize, len(terms))
    numbers = {label: _nominal(size) for label, size in sizes.items()}
    terms = [one.summed(_needed(terms, [number], result)) for number, one in enumerate(terms)]
    if optimize is True:
        path = _cheapest([frozenset(one.labels) for one in terms], frozenset(result), numbers)[1]
    while len(terms) > 1:
        pair = path.pop(0) if path else (0, 1)
        keep = _needed(terms, pair, result)
        joined = _joined(terms[pair[0]], terms[pair[1]], keep)
        rest = [one for number, one in enumerate(terms) if number not in pair]
        terms = [*rest, joined] if optimize else [joined, *rest]
    return terms[0].summed(result)


def _path(optimize: Any, count: int) -> list[tuple[int, int]]:
    """Give the pairs that were asked for."""
    if isinstance(optimize, bool):
        return []
    path = [tuple(pair) for pair in optimize]
    sizes = range(count, 1, -1)
    fits = len(path) == len(sizes) and all(
        len(pair) == 2 and len(set(pair)) == 2 and all(0 <= n < size for n in pair)
        for pair, size in zip(path, sizes)
    )
    if not fits:
        raise ArgumentError(
            f"einsum: optimize must be a bool or {count - 1} pairs of positions of what is left, "
            f"got {optimize!r}.",
            fix="optimize=True",
        )
    return [(min(pair), max(pair)) for pair in path]


def _nominal(size: Size) -> int:
    return size if isinstance(size, int) else evaluate(size, dict.fromkeys(free(size), NOMINAL))


def _needed(terms: Sequence[Term], but: Sequence[int], result: Labels) -> set[str]:
    """Give the axes that the result or other terms need."""
    others = (one.labels for number, one in enumerate(terms) if number not in but)
    return set(result).union(*others)


def _cheapest(
    terms: list[frozenset[str]], result: frozenset[str], numbers: Mapping[str, int]
) -> tuple[int, list[tuple[int, int]]]:
    """Give what the best order multiplies, and its pairs; of many terms only the next is sought."""
    if len(terms) < 2:
        return 0, []
    choices = []
    for pair in itertools.combinations(range(len(terms)), 2):
        rest = [one for number, one in enumerate(terms) if number not in pair]
        both = terms[pair[0]] | terms[pair[1]]
        left = both & result.union(*rest)
        price = math.prod(numbers[label] for label in both)
        choices.append((price, math.prod(numbers[label] for label in left), pair, [*rest, left]))
    if len(terms) > FEW:
        choices = [min(choices)]
    found = []
    for price, _, pair, after in choices:
        more, pairs = _cheapest(after, result, numbers)
        found.append((price + more, [pair, *pairs]))
    return min(found)


def _joined(x: Term, y: Term, keep: set[str]) -> Term:
    """Multiply two terms and sum over the axes that both have and nobody else needs."""
    both = [label for label in x.labels if label in y.labels]
    batch = [label for label in both if label in keep]
    inner = [label for label in both if label not in keep]
    rows = [label for label in x.labels if label not in both]
    columns = [label for label in y.labels if label not in both]
    if not inner or not (rows or columns):
        return _elementwise(x, y, (*batch, *rows, *columns, *inner)).summed(keep)
    stacks = [x.value.shape[x.labels.index(label)] for label in batch]
    inside = product(x.value.shape[x.labels.index(label)] for label in inner)
    height = [x.value.shape[x.labels.index(label)] for label in rows]
    width = [y.value.shape[y.labels.index(label)] for label in columns]
    left = F.reshape(x.ordered([*batch, *rows, *inner]), [*stacks, product(height), inside])
    right = F.reshape(y.ordered([*batch, *inner, *columns]), [*stacks, inside, product(width)])
    found = F.reshape(F.matmul(left, right), [*stacks, *height, *width])
    return Term(found, (*batch, *rows, *columns))


def _elementwise(x: Term, y: Term, labels: Labels) -> Term:
    """Multiply two terms, each spread along the axes that it lacks."""
    factors = []
    for term in (x, y):
        own = [label for label in labels if label in term.labels]
        sizes = iter(term.ordered(own).shape)
        spread = [next(sizes) if label in term.labels else 1 for label in labels]
        wide = cast_to(term.ordered(own), compute_dtype(term.value.dtype))
        factors.append(F.reshape(wide, spread))
    return Term(cast_to(factors[0] * factors[1], x.value.dtype), labels)
