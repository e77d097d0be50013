"""Solving formulas for sizes: from the shapes of given arrays, and for "what does this accept?"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice

from symgraph.dims.core import Dim, Size, Terms, as_size, is_symbol, polynomial, terms_of
from symgraph.dims.periodic import Piece, first_index, periodic
from symgraph.dims.polynomial import exact_quotient, scaled
from symgraph.dims.roots import integer_roots
from symgraph.dims.walk import evaluate, free, substitute
from symgraph.errors import DimError, GuardError
from symgraph.frozen import frozen


@frozen
class Progression:
    """The sizes `start, start + step, ...` below `stop`, or without end if `stop` is None.

    >>> print(Progression(3, 4, None))
    3, 7, 11, ...
    """

    start: int
    step: int
    stop: int | None

    def __contains__(self, value: int) -> bool:
        return (
            value >= self.start
            and (value - self.start) % self.step == 0
            and (self.stop is None or value < self.stop)
        )

    def __iter__(self) -> Iterator[int]:
        if self.stop is None:
            return count(self.start, self.step)
        return iter(range(self.start, self.stop, self.step))

    def __str__(self) -> str:
        shown = [str(value) for value in islice(self, 4)]
        return ", ".join([*shown[:3], "..."]) if len(shown) == 4 else ", ".join(shown)


def solve(expression: Size, value: Size, symbol: Dim) -> Size | None:
    """The only admissible `symbol` for which `expression == value`, or None if there is no such.

    The answer may be a formula: `solve(B*H + H, C*H, B)` is `C - 1`.

    >>> from symgraph.dims import dim
    >>> solve(2 * dim("B") + 1, 9, dim("B"))
    4
    """
    _check_symbol(symbol)
    difference = as_size(expression) - as_size(value)
    linear = _linear_in(terms_of(difference), symbol)
    if linear is not None:
        factor, rest = linear
        quotient = exact_quotient(scaled(rest, -1), factor) if factor else None
        if quotient is not None:
            answer = polynomial(quotient)
            return answer if type(answer) is not int or answer >= _least(symbol) else None
    if free(difference) != {symbol} or periodic(difference) is None:
        return None
    found = solutions(difference, 0, symbol)
    if len(found) != 1:
        return None
    first = list(islice(found[0], 2))
    return first[0] if len(first) == 1 else None


def _check_symbol(symbol: Size) -> None:
    if not is_symbol(symbol):
        raise DimError(f"can only solve for a named size, not for `{symbol}`.")


def _least(symbol: Dim) -> int:
    return (symbol.range or (0, None))[0] or 0


def _linear_in(terms: Terms, symbol: Dim) -> tuple[Terms, Terms] | None:
    """(factor, rest) with `terms = symbol*factor + rest`, both without the symbol, else None."""
    factor: Terms = {}
    rest: Terms = {}
    for mono, coefficient in terms.items():
        others = tuple(atom for atom in mono if atom is not symbol)
        if len(mono) - len(others) > 1 or any(symbol in free(atom) for atom in others):
            return None
        (rest if len(others) == len(mono) else factor)[others] = coefficient
    return factor, rest


def solutions(expression: Size, value: int, symbol: Dim) -> tuple[Progression, ...]:
    """All admissible values of `symbol` for which `expression == value`, exactly.

    For formulas of `+`, `*` and `// number` in one size. An empty tuple: no solution. Raises
    DimError for other formulas.

    >>> from symgraph.dims import dim
    >>> H = dim("H")
    >>> [str(p) for p in solutions((H - 3) % 4, 0, H)], [str(p) for p in solutions(H // 2, 5, H)]
    (['3, 7, 11, ...'], ['10, 11'])
    """
    _check_symbol(symbol)
    difference = as_size(expression) - as_size(value)
    if not free(difference) <= {symbol}:
        others = ", ".join(sorted(map(str, free(difference) - {symbol})))
        raise DimError(f"`{expression}` depends on {others} too, not only on {symbol}.")
    form = periodic(difference)
    if form is None:
        raise DimError(
            f"the solutions of `{expression} == {value}` cannot be listed: only +, * and // by a "
            "number are allowed, with a short period."
        )
    single: set[int] = set()
    endless: set[int] = set()
    for residue, piece in enumerate(form.pieces):
        if piece == (0,):
            endless.add(residue)
        else:
            first = first_index(_least(symbol), residue, form.period)
            roots = _roots_from(piece, first)
            single.update(form.period * root + residue for root in roots)
    return (*_endless(endless, form.period, _least(symbol)), *_runs(sorted(single)))


def _roots_from(piece: Piece, first: int) -> list[int]:
    return [root for root in integer_roots(piece) if root >= first]


def _endless(residues: set[int], period: int, least: int) -> list[Progression]:
    if not residues:
        return []
    for shorter in range(1, period + 1):
        if period % shorter:
            continue
        reduced = {residue % shorter for residue in residues}
        if len(reduced) * (period // shorter) == len(residues):
            break
    starts = sorted(least + (residue - least) % shorter for residue in reduced)
    return [Progression(start, shorter, None) for start in starts]


def _runs(values: list[int]) -> list[Progression]:
    """The fewest runs of equal distance, taken greedily."""
    runs: list[Progression] = []
    position = 0
    while position < len(values):
        end = position + 1
        step = values[end] - values[position] if end < len(values) else 1
        while end < len(values) and values[end] - values[end - 1] == step:
            end += 1
        if end - position == 2 and step > 1:  # two alone are no pattern
            end, step = position + 1, 1
        runs.append(Progression(values[position], step, values[end - 1] + 1))
        position = end
    return runs


def solve_all(pairs: Sequence[tuple[Size, int]]) -> dict[Dim, int]:
    """The sizes for which each formula has its number: binds the symbols of given shapes.

    Symbols alone first, then what has one unknown and one solution; a symbol that is not
    determined is left out. Raises GuardError naming formula, expected and actual value on any
    contradiction, and when a size would be below its least value.

    >>> from symgraph.dims import dims
    >>> B, H = dims("B H")
    >>> solve_all([(B * H, 12), (B, 3)]) == {B: 3, H: 4}
    True
    """
    found: dict[Dim, int] = {}
    pending: list[tuple[Size, int]] = []
    for formula, given in pairs:
        actual = as_size(given, f"the value of `{formula}`")
        if type(actual) is not int:
            raise DimError(f"the value of `{formula}` must be a number, not `{actual}`.")
        if type(formula) is Dim and formula.kind == "symbol" and formula not in found:
            _bind(found, formula, actual, formula)
        else:
            pending.append((formula, actual))
    progress = True
    while progress and pending:
        before = len(pending)
        pending = [pair for pair in pending if not _settle(found, *pair)]
        progress = len(pending) < before
    return found


def _settle(found: dict[Dim, int], formula: Size, actual: int) -> bool:
    """Check a formula without unknowns, or bind its only unknown; False if neither can be."""
    unknown = free(formula) - found.keys()
    if not unknown:
        expected = evaluate(formula, found)
        if expected != actual:
            raise _contradiction(formula, expected, actual, found)
        return True
    if len(unknown) > 1:
        return False
    (symbol,) = unknown
    known = substitute(formula, found)
    if type(known) is int:
        if known != actual:
            raise _contradiction(formula, known, actual, found)
        return True
    answer = solve(known, actual, symbol)
    if type(answer) is int:
        _bind(found, symbol, answer, formula)
        return True
    if periodic(known) is not None and not solutions(known, actual, symbol):
        raise GuardError(
            f"size `{formula}` is {actual} in the given arrays, but no `{symbol}` >= "
            f"{_least(symbol)} gives that{_with(formula, found)}.",
            fix="give arrays whose sizes fit",
        )
    return False


def _bind(found: dict[Dim, int], symbol: Dim, value: int, formula: Size) -> None:
    if value < _least(symbol):
        raise GuardError(
            f"size `{symbol}` must be >= {_least(symbol)}, but is {value}"
            + (f" because `{formula}` was given." if formula is not symbol else "."),
            fix=f'make it with sg.dim("{symbol}", min={max(value, 0)}) if that is meant',
        )
    found[symbol] = value


def _with(formula: Size, found: Mapping[Dim, int]) -> str:
    shown = sorted(f"{symbol} = {found[symbol]}" for symbol in free(formula) & found.keys())
    return f" with {', '.join(shown)}" if shown else ""


def _contradiction(
    formula: Size, expected: int, actual: int, found: Mapping[Dim, int]
) -> GuardError:
    return GuardError(
        f"size `{formula}` must be {expected}{_with(formula, found)}, but is {actual}.",
        fix="give arrays whose sizes fit",
    )
