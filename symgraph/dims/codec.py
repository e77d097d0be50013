"""Sizes as plain lists, for JSON: exact, shared parts once, anonymous sizes kept apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from symgraph.dims.arithmetic import product, total
from symgraph.dims.core import Dim, Size, anonymous, dim, is_anonymous, operations, terms_of
from symgraph.dims.extrema import maximum, minimum
from symgraph.dims.walk import postorder
from symgraph.errors import DimError

MAX_TERMS = 10_000  # that one product may have when it is read


def encode(sizes: Sequence[Size]) -> dict[str, list[Any]]:
    """Sizes as nested lists of strings and ints: `{"atoms": [...], "sizes": [...]}`.

    A size is a list of terms `[coefficient, atom, atom, ...]`, where an atom is a position in
    "atoms". What was one anonymous size stays one.
    """
    atoms: list[Any] = []
    index: dict[Dim, int] = {}

    def terms(size: Size) -> list[list[int]]:
        return [[value, *(index[a] for a in mono)] for mono, value in terms_of(size).items()]

    for size in sizes:
        for atom in postorder(size):
            if atom in index:
                continue
            if atom.kind == "symbol":
                low, most = atom.range or (0, None)
                known = [] if most is None else [most]
                atoms.append(["anonymous", atom.name, *known] if is_anonymous(atom)
                             else ["size", atom.name, low])  # fmt: skip
            else:
                atoms.append([atom.kind, *(terms(arg) for arg in atom.args)])
            index[atom] = len(atoms) - 1
    return {"atoms": atoms, "sizes": [terms(size) for size in sizes]}


def decode(data: Any) -> tuple[Size, ...]:
    """The sizes that `encode` wrote; anonymous ones are fresh. Raises DimError for other data.

    >>> decode(encode((dim("B") // 2, 3)))
    (B//2, 3)
    """
    if not isinstance(data, dict) or set(data) != {"atoms", "sizes"}:
        raise _damaged(data)
    atoms: list[Size] = []
    for entry in _list(data["atoms"]):
        head, *rest = _list(entry) or [None]
        atoms.append(_atom(head, rest, atoms))
    return tuple(_terms(size, atoms) for size in _list(data["sizes"]))


def _damaged(data: object) -> DimError:
    return DimError(f"damaged sizes: {str(data)[:80]!r} is not what was written.")


def _list(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise _damaged(data)
    return data


def _atom(head: object, rest: list[Any], atoms: Sequence[Size]) -> Size:
    if head == "size" and len(rest) == 2:
        return dim(*rest)
    if head == "anonymous" and len(rest) in (1, 2):
        return anonymous(*rest)
    args = [_terms(arg, atoms) for arg in rest]
    if head == "//" and len(args) == 2:
        return operations.floor_divide(args[0], args[1])
    if head in ("min", "max") and len(args) >= 2:
        return (minimum if head == "min" else maximum)(*args)
    raise _damaged([head, *rest])


def _terms(data: Any, atoms: Sequence[Size]) -> Size:
    values: list[Size] = []
    for term in _list(data):
        numbers = _list(term)
        if not numbers or any(type(number) is not int for number in numbers):
            raise _damaged(term)
        if any(not 0 <= place < len(atoms) for place in numbers[1:]):
            raise _damaged(term)
        factors = [atoms[place] for place in numbers[1:]]
        if math.prod(max(len(terms_of(factor)), 1) for factor in factors) > MAX_TERMS:
            raise _damaged(term)  # what was written is one term each; sums would multiply
        values.append(product([numbers[0], *factors]))
    return total(values)


def _decode_one(data: Any) -> Size:
    return decode(data)[0]


operations.encode = lambda size: encode((size,))
operations.decode = _decode_one
