"""Exact analysis of formulas in one size: what bounds alone cannot decide.

A formula of `+`, `*` and `// number` in one size `s` is, for each residue `r` of `s` modulo some
period `P`, a polynomial in `t` with integer coefficients, where `s = P*t + r`. From these pieces
follow the exact least and greatest value, and all solutions of `formula = value`.
"""

from __future__ import annotations

from math import lcm

from symgraph.dims.core import Dim, Size, terms_of
from symgraph.dims.walk import free, postorder
from symgraph.frozen import frozen

MAX_PERIOD = 2048
"""Formulas that repeat only after more than this many sizes are not analysed."""

Piece = tuple[int, ...]  # coefficients of 1, t, t**2, ...


@frozen
class Periodic:
    """A formula in one size: `pieces[r]` is its polynomial in t for `size = period*t + r`."""

    pieces: tuple[Piece, ...]

    @property
    def period(self) -> int:
        return len(self.pieces)

    def spread(self, period: int) -> tuple[Piece, ...]:
        """The pieces over a multiple of the period."""
        own = self.period
        if period == own:
            return self.pieces
        times = period // own
        return tuple(
            _compose(self.pieces[r % own], r // own, times) if len(self.pieces[r % own]) > 1
            else self.pieces[r % own]
            for r in range(period)
        )  # fmt: skip


@frozen
class ExactRange:
    """The least and greatest value of a formula (None: unbounded) and whether it can be 0."""

    low: int | None
    high: int | None
    hits_zero: bool


def _trim(piece: list[int]) -> Piece:
    while len(piece) > 1 and piece[-1] == 0:
        piece.pop()
    return tuple(piece)


def _plus(left: Piece, right: Piece, factor: int = 1) -> Piece:
    size = max(len(left), len(right))
    a = list(left) + [0] * (size - len(left))
    for index, value in enumerate(right):
        a[index] += factor * value
    return _trim(a)


def _times(left: Piece, right: Piece) -> Piece:
    result = [0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            result[i + j] += a * b
    return _trim(result)


def _compose(piece: Piece, start: int, step: int) -> Piece:
    """The piece at `start + step*t`."""
    result: Piece = (0,)
    for coefficient in reversed(piece):
        result = _plus(_times(result, (start, step)), (coefficient,))
    return result


def periodic(size: Size) -> Periodic | None:
    """The pieces of a formula in one size, or None if it is not of that form."""
    if type(size) is not Dim:
        return Periodic(((size,),))  # type: ignore[arg-type]
    if len(free(size)) != 1:
        return None
    known: dict[Dim, Periodic] = {}
    for atom in postorder(size):
        if atom.kind == "symbol":
            known[atom] = Periodic(((0, 1),))
            continue
        if atom.kind != "//" or type(atom.args[1]) is not int:
            return None
        top = _combine(atom.args[0], known)
        found = None if top is None else _floor(top, atom.args[1])
        if found is None:
            return None
        known[atom] = found
    return _combine(size, known)


def _combine(size: Size, known: dict[Dim, Periodic]) -> Periodic | None:
    terms = terms_of(size)
    atoms = {atom for mono in terms for atom in mono}
    period = lcm(*(known[atom].period for atom in atoms))
    if period > MAX_PERIOD:
        return None
    wide = {atom: known[atom].spread(period) for atom in atoms}
    pieces = []
    for residue in range(period):
        total: Piece = (0,)
        for mono, coefficient in terms.items():
            value: Piece = (coefficient,)
            for atom in mono:
                value = _times(value, wide[atom][residue])
            total = _plus(total, value)
        pieces.append(total)
    return Periodic(tuple(pieces))


def _floor(top: Periodic, divisor: int) -> Periodic | None:
    if any(len(piece) > 2 for piece in top.pieces):
        return None  # the remainder of a higher power repeats too, but such sizes are rare
    period = top.period
    slopes = [piece[1] if len(piece) == 2 else 0 for piece in top.pieces]
    for slope in slopes:
        if slope % divisor:
            period = lcm(period, top.period * (divisor // _gcd(slope, divisor)))
    if period > MAX_PERIOD:
        return None
    pieces = []
    for piece in top.spread(period):
        slope = piece[1] if len(piece) == 2 else 0
        pieces.append(_trim([piece[0] // divisor, slope // divisor]))
    return Periodic(tuple(pieces))


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return abs(a)


def first_index(low: int, residue: int, period: int) -> int:
    """The least t with `period*t + residue >= low`."""
    return -((residue - low) // period)


def range_of_one_symbol(size: Size) -> ExactRange | None:
    """The exact range of a formula in one size, or None where it is not known."""
    form = periodic(size)
    if form is None:
        return None
    (symbol,) = free(size)
    least = (symbol.range or (None, None))[0]
    if least is None:
        return None
    low: int | None = None
    high: int | None = None
    endless_low = endless_high = hits_zero = False
    for residue, piece in enumerate(form.pieces):
        if len(piece) > 2:
            return None
        start = first_index(least, residue, form.period)
        slope = piece[1] if len(piece) == 2 else 0
        value = piece[0] + slope * start
        low = value if low is None else min(low, value)
        high = value if high is None else max(high, value)
        endless_low |= slope < 0
        endless_high |= slope > 0
        hits_zero |= value == 0 or (slope != 0 and value * slope < 0 and value % slope == 0)
    return ExactRange(None if endless_low else low, None if endless_high else high, hits_zero)
