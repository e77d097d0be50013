"""Walking over formulas, without recursion: free sizes, evaluation, substitution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symgraph.dims.core import Dim, Size, Terms, as_size, is_symbol, operations, terms_of
from symgraph.errors import DimError


def _parts(size: Size) -> list[Dim]:
    """The atoms a formula is directly made of: those of its terms, or of its arguments."""
    if type(size) is not Dim:
        return []
    if size._terms is not None:
        return [factor for mono in size._terms for factor in mono]
    return [part for part in size.args if type(part) is Dim]


def postorder(size: Size) -> tuple[Dim, ...]:
    """All atoms inside a formula, each after the atoms inside it; `size` too if it is an atom."""
    if type(size) is not Dim:
        return ()
    if size.kind == "symbol":
        return (size,)
    if size._walk is None:
        found: dict[Dim, None] = {}
        stack = [(size, False)]
        opened = set()
        while stack:
            node, done = stack.pop()
            if done:
                if node._terms is None and node is not size:
                    found[node] = None
            elif node not in opened:
                opened.add(node)
                stack.append((node, True))
                stack.extend((part, False) for part in reversed(_parts(node)))
        size._walk = tuple(found)  # without `size` itself, which would keep itself alive
    return size._walk if size._terms is not None else (*size._walk, size)


def free(size: Size) -> frozenset[Dim]:
    """The named and anonymous sizes in a formula.

    >>> from symgraph.dims import dims
    >>> B, H = dims("B H")
    >>> free((B + 1) // 2) == {B}
    True
    """
    if type(size) is not Dim:
        return frozenset()
    if size.kind == "symbol":
        return frozenset((size,))
    if size._free is None:
        size._free = frozenset(part for part in postorder(size) if part.kind == "symbol")
    return size._free


def evaluate(size: Size, env: Mapping[Dim, int]) -> int:
    """The number a formula has for given sizes. Raises DimError for a size that is not given.

    >>> from symgraph.dims import dim
    >>> B = dim("B")
    >>> evaluate((B - 1) // 2, {B: 8})
    3
    """
    return evaluate_all((size,), env)[0]


def evaluate_all(sizes: Sequence[Size], env: Mapping[Dim, int]) -> tuple[int, ...]:
    """The numbers of several formulas, sharing the work on common parts."""
    values: dict[Dim, int] = {}
    return tuple(size if type(size) is int else _evaluate(size, env, values) for size in sizes)


def _evaluate(size: Size, env: Mapping[Dim, int], values: dict[Dim, int]) -> int:
    if type(size) is not Dim:
        return int(as_size(size))
    for atom in postorder(size):
        if atom not in values:
            values[atom] = _value_of_atom(atom, env, values)
    return values[size] if size._terms is None else _value_of_terms(size._terms, values)


def _value_of_atom(atom: Dim, env: Mapping[Dim, int], values: dict[Dim, int]) -> int:
    if atom.kind == "symbol":
        try:
            value = env[atom]
        except KeyError:
            raise DimError(
                f"size `{atom}` is not given.",
                details=[f"given: {', '.join(map(str, env)) or 'nothing'}"],
            ) from None
        number = as_size(value, f"the value of size `{atom}`")
        if type(number) is not int:
            raise DimError(f"the value of size `{atom}` must be a number, not `{number}`.")
        return number
    numbers = [
        arg if type(arg) is int
        else values[arg] if arg in values  # type: ignore[index]
        else _value_of_terms(terms_of(arg), values)
        for arg in atom.args
    ]  # fmt: skip
    if atom.kind == "//":
        if numbers[1] < 1:
            raise DimError(f"size `{atom}` divides by {numbers[1]}: a size is out of its bounds.")
        return numbers[0] // numbers[1]
    return min(numbers) if atom.kind == "min" else max(numbers)


def _value_of_terms(terms: Terms, values: Mapping[Dim, int]) -> int:
    total = 0
    for mono, coefficient in terms.items():
        for factor in mono:
            coefficient *= values[factor]
        total += coefficient
    return total


def substitute(size: Size, env: Mapping[Dim, Size]) -> Size:
    """The formula with named sizes replaced by numbers or formulas, in normal form.

    >>> from symgraph.dims import dims
    >>> B, H = dims("B H")
    >>> substitute((B + 1) // 2, {B: 2 * H})
    H
    """
    for old in env:
        if not is_symbol(old):
            raise DimError(f"only named sizes can be replaced, not `{old}`.")
    if type(size) is not Dim or free(size).isdisjoint(env):
        return size
    new: dict[Dim, Size] = {}
    for atom in postorder(size):
        if atom.kind == "symbol":
            new[atom] = as_size(env[atom]) if atom in env else atom
        elif free(atom).isdisjoint(env):
            new[atom] = atom
        else:
            new[atom] = _rebuilt(atom, new)
    return new[size] if size._terms is None else _rebuilt_terms(size._terms, new)


def _rebuilt(atom: Dim, new: Mapping[Dim, Size]) -> Size:
    args = [arg if type(arg) is int else _rebuilt_terms(terms_of(arg), new) for arg in atom.args]
    if atom.kind == "//":
        return operations.floor_divide(args[0], args[1])
    extreme = operations.minimum if atom.kind == "min" else operations.maximum
    return extreme(*args)


def _rebuilt_terms(terms: Terms, new: Mapping[Dim, Size]) -> Size:
    values: list[Size] = []
    for mono, coefficient in terms.items():
        value: Size = coefficient
        for factor in mono:
            value = operations.multiply(value, new[factor])
        values.append(value)
    return operations.total(values)
