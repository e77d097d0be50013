"""Ranks: what they cost, as formulas; which ones a ratio or an error asks for; the factors.

A shape is that of a dense weight: (inputs, outputs) of a matrix, which has one rank, or
(outputs, inputs, kh, kw) of filters, which have two, but one where the kernel is 1 x 1. Sizes and
ranks may be symbols wherever the answer is a formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from symgraph.dims import Dim, Size, product, total
from symgraph.errors import ArgumentError
from symgraph.graph.arguments import plain_int

Numbers = npt.NDArray[np.float64]
Ranks = tuple[int, ...]


class Sides(NamedTuple):
    """Inputs, outputs and places in the kernel of a dense weight."""

    inputs: Any  # sizes, with which one computes: ints or symbols
    outputs: Any
    places: Any

    @property
    def one_rank(self) -> bool:
        """Whether the weight is a matrix, also one that is written as filters of 1 x 1."""
        return isinstance(self.places, int) and self.places == 1


def sides(shape: Sequence[Size]) -> Sides:
    """Read the shape of a weight; raises `ArgumentError` for one of neither two nor four axes.

    >>> sides((512, 256, 3, 3))
    Sides(inputs=256, outputs=512, places=9)
    """
    if len(shape) == 2:
        return Sides(shape[0], shape[1], 1)
    if len(shape) == 4:
        return Sides(shape[1], shape[0], product(shape[2:]))
    raise ArgumentError(
        f"low rank: a weight of shape {tuple(map(str, shape))} is neither a matrix nor filters in "
        "two dimensions."
    )


# -- formulas --------------------------------------------------------------------------------------


def parameters(shape: Sequence[Size], ranks: Sequence[Size] = ()) -> Size:
    """Count the numbers of the factors, or without ranks those of the dense weight.

    Matrix: r (C + S). Filters: C r1 + K r1 r2 + S r2, with K places in the kernel.

    >>> import symgraph as sg
    >>> print(parameters((768, 3072), (sg.dim("r"),)))
    3840*r
    """
    inputs, outputs, places = sides(shape)
    if not ranks:
        return product((inputs, outputs, places))
    return total(size for size, _ in _steps(shape, ranks))


def flops(
    shape: Sequence[Size], ranks: Sequence[Size], before: Size, after: Size | None = None
) -> Size:
    """Count the FLOPs of one pass forward: two for each number at each place it is used at.

    `before` and `after` are the rows of a matrix product, or the pixels of all images before and
    after the convolution. Without ranks it is the dense layer. Backwards each takes twice that: one
    for the gradient of its input, one for that of its weight, which a frozen factor does not need.

    >>> import symgraph as sg
    >>> print(flops((128, 64, 3, 3), (32, 64), sg.dim("P")))
    57344*P
    """
    last = before if after is None else after
    if not ranks:
        return 2 * parameters(shape) * last
    return total(2 * size * (last if late else before) for size, late in _steps(shape, ranks))


def break_even(shape: Sequence[Size]) -> tuple[Size, ...]:
    """Give the largest ranks whose factors have no more numbers than the dense weight.

    Matrix: C S // (C + S). Filters: as `ranks_of_ratio` with ratio 1, which needs sizes in numbers.

    >>> import symgraph as sg
    >>> C = sg.dim("C")
    >>> print(break_even((C, 2 * C))[0])
    (2*C)//3
    """
    inputs, outputs, _ = found = sides(shape)
    if found.one_rank:
        return (inputs * outputs // (inputs + outputs),)
    return ranks_of_ratio(shape, 1.0)


def _steps(shape: Sequence[Size], ranks: Sequence[Size]) -> list[tuple[Any, bool]]:
    """Give the numbers of each factor, and whether it works on the pixels after the kernel."""
    found = sides(shape)
    inputs, outputs, places = found
    if len(ranks) != (1 if found.one_rank else 2):
        raise ArgumentError(
            f"low rank: a weight of shape {tuple(map(str, shape))} has "
            f"{'one rank' if found.one_rank else 'two ranks'}, got {len(ranks)}."
        )
    if found.one_rank:
        return [(inputs * ranks[0], True), (outputs * ranks[0], True)]  # the first has the stride
    first, last = ranks
    return [(inputs * first, False), (places * first * last, True), (outputs * last, True)]


# -- which ranks -----------------------------------------------------------------------------------


def full_ranks(shape: Sequence[Size]) -> Ranks:
    """Give the ranks with which any weight of a shape is reproduced."""
    inputs, outputs, places = found = sides(shape)
    if found.one_rank:
        return (min(inputs, outputs),)
    return min(inputs, outputs * places), min(outputs, inputs * places)


def ranks_of_ratio(shape: Sequence[Size], ratio: float, *, beta: float | None = None) -> Ranks:
    """Give the largest ranks with which a weight has `ratio` times fewer numbers.

    Matrix: r = C S / (ratio (C + S)). Filters: r2 = beta r1, and C r1 + K beta r1^2 + S beta r1 =
    C S K / ratio; unless given, beta is S / C. At least 1, at most the full ranks.
    Raises `ArgumentError` for a ratio below 1, a beta that is not above 0, and sizes without
    numbers.

    >>> ranks_of_ratio((768, 3072), 2), ranks_of_ratio((512, 512, 3, 3), 2)
    ((307,), (309, 309))
    """
    inputs, outputs, places = found = sides(shape)
    if any(isinstance(size, Dim) for size in found):
        raise ArgumentError(
            f"low rank: the sizes of {tuple(map(str, shape))} need numbers to choose ranks."
        )
    if not (ratio >= 1 and math.isfinite(ratio)):
        raise ArgumentError(f"low rank: the ratio must be >= 1, got {ratio}.", fix="ratio=2")
    if beta is not None and not (beta > 0 and math.isfinite(beta)):
        raise ArgumentError(f"low rank: beta must be above 0, got {beta}.", fix="beta=None")
    if found.one_rank:
        wanted = [inputs * outputs / (ratio * (inputs + outputs))]
    else:
        share = outputs / inputs if beta is None else beta
        line, square = inputs + share * outputs, share * places
        numbers = inputs * outputs * places / ratio
        first = (math.sqrt(line * line + 4 * square * numbers) - line) / (2 * square)
        wanted = [first, share * first]
    full = full_ranks(shape)
    return tuple(max(1, min(most, math.floor(r + 1e-9))) for r, most in zip(wanted, full))


def ranks_of_error(weight: npt.ArrayLike, error: float) -> Ranks:
    """Give the least ranks with which a weight is off by at most `error`, as a part of its length.

    Of filters each of the two ranks may take half of the square: together they take no more than
    all of it, as the truncations are projections. Raises `ArgumentError` outside 0 <= error < 1 and
    for a weight with NaN or infinity.
    """
    if not 0 <= error < 1:
        raise ArgumentError(
            f"low rank: the error must lie in [0, 1), got {error}.", fix="error=0.1"
        )
    unfolded = _unfolded(_finite(weight))
    most = error**2 / len(unfolded)
    return tuple(_rank_within(rows, most) for rows in unfolded)


def losses(weight: npt.ArrayLike, several: Sequence[Ranks]) -> list[float]:
    """Give what a weight loses at most at several ranks: squares, as parts of its own.

    Of a matrix it is exact: the tail of the singular values. Of filters the tails of both
    unfoldings are added. Raises `ArgumentError` as `factorised` does.
    """
    found = [0.0] * len(several)
    dense = _finite(weight)
    for ranks in several:
        _check_ranks(dense.shape, ranks)
    for place, rows in enumerate(_unfolded(dense)):
        lost = _tails(rows)
        for number, ranks in enumerate(several):
            found[number] += float(lost[ranks[place]] / lost[0]) if lost[0] > 0 else 0.0
    return found


def _unfolded(dense: Numbers) -> list[Numbers]:
    """Give the matrices whose singular values say what a rank loses: by inputs, by outputs."""
    found = sides(dense.shape)
    if found.one_rank:
        return [dense.reshape(dense.shape[:2])]
    by_inputs = np.moveaxis(dense, 1, 0)
    return [by_inputs.reshape(len(by_inputs), -1), dense.reshape(len(dense), -1)]


def _rank_within(rows: Numbers, most: float) -> int:
    lost = _tails(rows)
    # what rounding leaves of a singular value that is 0 is not worth a rank
    enough = lost <= max(most, 1e-24) * lost[0]
    return max(1, int(np.argmax(enough)))


def _tails(rows: Numbers) -> Numbers:
    """Give the squares that are lost by each rank from 0 on."""
    squares = np.linalg.svd(_square(rows), compute_uv=False) ** 2
    return np.append(np.cumsum(squares[::-1])[::-1], 0.0)


def _square(rows: Numbers) -> Numbers:
    """Give a smaller matrix with the same left singular vectors and values, where one is wide."""
    if rows.shape[0] >= rows.shape[1]:
        return rows
    triangle: Any = np.linalg.qr(rows.T, mode="r")
    return np.asarray(triangle).T


# -- factors ---------------------------------------------------------------------------------------


class Factors(NamedTuple):
    """The smaller weights, first to last, and how far their product is off (Frobenius, relative).

    Of a matrix they are (inputs, r) and (r, outputs); of filters (r1, inputs, 1, 1),
    (r2, r1, kh, kw) and (outputs, r2, 1, 1), where a kernel of 1 x 1 has none in the middle.
    """

    weights: tuple[Numbers, ...]
    error: float


def factorised(weight: npt.ArrayLike, ranks: Sequence[int], *, rounds: int = 0) -> Factors:
    """Give factors near to a weight: the singular value decomposition, or Tucker's of the channels.

    A matrix is cut after its largest singular values, whose roots go to both factors: nothing of
    that rank is nearer (Eckart, Young: "The approximation of one matrix by another of lower rank",
    1936). Filters are projected on the leading singular vectors of both unfoldings (HOSVD), which
    `rounds` of alternating least squares improve (HOOI). De Lathauwer, De Moor, Vandewalle: "A
    multilinear singular value decomposition", 2000; Kim et al.: "Compression of deep convolutional
    neural networks for fast and low power mobile applications", 2015.
    Raises `ArgumentError` for ranks outside 1 .. full, and for numbers that are not finite.
    """
    dense = _finite(weight)
    _check_ranks(dense.shape, ranks)
    if plain_int("low rank", "rounds", rounds) < 0:
        raise ArgumentError(f"low rank: rounds must be >= 0, got {rounds}.", fix="rounds=0")
    if sides(dense.shape).one_rank:
        return _by_singular_values(dense, ranks[0])
    return _tucker(dense, ranks[0], ranks[1], rounds)


def _finite(weight: npt.ArrayLike) -> Numbers:
    dense = np.asarray(weight, np.float64)
    if not np.isfinite(dense).all():
        raise ArgumentError("low rank: the weight holds NaN or infinity.", fix="train again")
    return dense


def _check_ranks(shape: Sequence[int], ranks: Sequence[int]) -> None:
    _steps(shape, ranks)  # as many as there are to be
    for rank, most in zip(ranks, full_ranks(shape)):
        plain_int("low rank", "a rank", rank)
        if not 1 <= rank <= most:
            raise ArgumentError(
                f"low rank: a rank of a weight of shape {tuple(shape)} must lie in 1 .. {most}, "
                f"got {rank}.",
                fix=f"at most {full_ranks(shape)}; from {break_even(shape)} on it has more numbers",
            )


def _by_singular_values(dense: Numbers, rank: int) -> Factors:
    matrix = dense.reshape(dense.shape[:2])
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    roots = np.sqrt(values[:rank])
    # Where there is nothing to share, one side is not zero: of two zeros neither would ever learn.
    some = np.where(values[:rank] > 1e-12 * max(values[0], 1e-300), roots, 1.0)
    before, after = left[:, :rank] * some, roots[:, None] * right[:rank]
    error = _relative((values[rank:] ** 2).sum(), (values**2).sum())
    if dense.ndim == 2:
        return Factors((before, after), error)
    return Factors((after[:, :, None, None], before[:, :, None, None]), error)  # outputs come first


def _tucker(dense: Numbers, before: int, after: int, rounds: int) -> Factors:
    inputs, outputs = (_leading(rows, r) for rows, r in zip(_unfolded(dense), (before, after)))
    for _ in range(rounds):
        seen = np.einsum("ocij,ob->bcij", dense, outputs, optimize=True)
        inputs = _leading(_unfolded(seen)[0], before)
        seen = np.einsum("ocij,ca->oaij", dense, inputs, optimize=True)
        outputs = _leading(_unfolded(seen)[1], after)
    core = np.einsum("ocij,ob,ca->baij", dense, outputs, inputs, optimize=True)
    whole = (dense**2).sum()
    # both are projections, so that what is lost and what is kept make a right angle
    error = _relative(max(0.0, whole - (core**2).sum()), whole)
    return Factors((inputs.T[:, :, None, None], core, outputs[:, :, None, None]), error)


def _leading(rows: Numbers, rank: int) -> Numbers:
    """Give the leading left singular vectors, as columns."""
    left: Numbers = np.linalg.svd(_square(rows), full_matrices=False)[0][:, :rank]
    return left


def _relative(lost: float, whole: float) -> float:
    return float(np.sqrt(lost / whole)) if whole > 0 else 0.0
