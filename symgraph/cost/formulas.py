"""Formulas as one fast Python function: a microsecond where `dims.evaluate` takes a hundred.

Every atom (`//`, `min`, `max`) is computed once, however many formulas it stands in. The source is
made of generated names and numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from symgraph.dims import Dim, Size, free, is_symbol
from symgraph.dims.core import Terms, terms_of
from symgraph.dims.walk import postorder
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.graph.arguments import plain_int

Sizes = Mapping[Any, int]  # sizes or their names -> numbers
TERMS_A_LINE = 40  # Python's compiler recurses over a long sum


def compiled(
    symbols: Sequence[Dim], single: Sequence[Size], largest: Sequence[Size] = ()
) -> Callable[..., tuple[int, ...]]:
    """Make a function of numbers for the symbols that gives each formula, then the largest of some.

    >>> from symgraph.dims import dim
    >>> B = dim("B")
    >>> compiled([B], [B // 2, 3 * B], [B, 10])(7)
    (3, 21, 10)
    """
    names: dict[Dim, str] = {symbol: f"s{i}" for i, symbol in enumerate(symbols)}
    body: list[str] = []
    for size in (*single, *largest):
        for atom in postorder(size):
            if atom not in names:
                names[atom] = f"a{len(names)}"
                body.extend(_assign(names[atom], atom, names))
    results = []
    for number, size in enumerate((*single, *largest)):
        results.append(f"r{number}")
        body.extend(_sum(results[-1], terms_of(size), names))
    parts = results[: len(single)]
    if largest:
        rest = results[len(single) :]
        parts.append(f"max({', '.join(rest)})" if len(rest) > 1 else rest[0])
    lines = [f"def formulas({', '.join(names[symbol] for symbol in symbols)}):"]
    lines += [f"    {line}" for line in [*body, f"return ({', '.join(parts)},)"]]
    space: dict[str, Any] = {"__builtins__": {"min": min, "max": max}}
    exec("\n".join(lines), space)
    function: Callable[..., tuple[int, ...]] = space["formulas"]
    return function


def _assign(name: str, atom: Dim, names: Mapping[Dim, str]) -> Iterator[str]:
    parts = []
    for number, arg in enumerate(atom.args):
        yield from _sum(f"{name}_{number}", terms_of(arg), names)
        parts.append(f"{name}_{number}")
    made = " // ".join(parts) if atom.kind == "//" else f"{atom.kind}({', '.join(parts)})"
    yield f"{name} = {made}"


def _sum(name: str, terms: Terms, names: Mapping[Dim, str]) -> Iterator[str]:
    products = [
        "*".join([*([str(value)] if value != 1 or not mono else []), *(names[a] for a in mono)])
        for mono, value in terms.items()
    ]
    yield f"{name} = {' + '.join(products[:TERMS_A_LINE]) or 0}"
    for start in range(TERMS_A_LINE, len(products), TERMS_A_LINE):
        yield f"{name} += {' + '.join(products[start : start + TERMS_A_LINE])}"


class Arguments:
    """The sizes that formulas depend on, and how numbers for them are taken from a caller."""

    def __init__(self, sizes: Sequence[Size]) -> None:
        found = sorted(frozenset().union(*map(free, sizes)), key=lambda symbol: symbol.order)
        self.symbols = tuple(found)
        self.names = tuple(map(str, found))
        self.least = tuple((symbol.range or (0, None))[0] or 0 for symbol in found)

    def take(self, what: str, sizes: Sizes | None, named: Mapping[str, int]) -> list[int]:
        """Give the numbers in order, from a mapping and from keywords.

        Raises `ArgumentError` for a size that is missing, unknown, given twice or too small.
        """
        if not sizes and len(named) == len(self.names):  # the usual way, in a microsecond
            try:
                values = [named[name] for name in self.names]
            except KeyError:
                values = []
            if [type(value) for value in values] == [int] * len(self.names) and all(
                value >= low for value, low in zip(values, self.least)
            ):
                return values
        given = self.known(what, sizes, named)
        missing = [name for symbol, name in zip(self.symbols, self.names) if symbol not in given]
        if missing:
            raise ArgumentError(
                f"{what}: the size{'s' * (len(missing) > 1)} {', '.join(missing)} "
                f"{'have' if len(missing) > 1 else 'has'} no number.",
                fix=f"{what}({', '.join(f'{name}=128' for name in missing)})",
            )
        return [given[symbol] for symbol in self.symbols]

    def known(self, what: str, sizes: Sizes | None, named: Mapping[str, int]) -> dict[Dim, int]:
        """Give the numbers by size; some may be missing."""
        if sizes is not None and not isinstance(sizes, Mapping):
            raise ArgumentTypeError(
                f"{what}: sizes must be a mapping, got {type(sizes).__name__}.",
                fix=f"{what}(B=128) or {what}({{B: 128}})",
            )
        found: dict[Dim, int] = {}
        least = dict(zip(self.symbols, self.least))
        for key, value in [*(sizes or {}).items(), *named.items()]:
            symbol = self.find(what, key)
            number = plain_int(what, f"the size {symbol}", value)
            if number < least[symbol]:
                raise ArgumentError(
                    f"{what}: the size {symbol} must be at least {least[symbol]}, got {number}."
                )
            if found.setdefault(symbol, number) != number:
                raise ArgumentError(
                    f"{what}: the size {symbol} is given as {found[symbol]} and {number}."
                )
        return found

    def find(self, what: str, key: Any) -> Dim:
        """Find a size by itself or by its name; raises `ArgumentError` where it is not one."""
        if isinstance(key, Dim) and is_symbol(key):
            meant = [symbol for symbol in self.symbols if symbol is key]
        elif isinstance(key, str):
            meant = [symbol for symbol, name in zip(self.symbols, self.names) if name == key]
        else:
            raise ArgumentTypeError(
                f"{what}: {key!r} is no size, nor the name of one.",
                fix=f"sizes are {self.listed()}",
            )
        if len(meant) != 1:
            near = get_close_matches(str(key), self.names, n=1)
            raise ArgumentError(
                f"{what}: there {'are several sizes' if meant else 'is no size'} `{key}` "
                f"in this graph, which depends on {self.listed()}.",
                fix=f"did you mean {near[0]}?" if near and not meant else "",
            )
        return meant[0]

    def listed(self) -> str:
        """Give the names of the sizes for a message."""
        return ", ".join(self.names) or "no size"
