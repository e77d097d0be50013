"""Exact arithmetic on the terms of a polynomial, as plain dictionaries."""

from __future__ import annotations

from math import gcd

from symgraph.dims.core import MAX_DEGREE, MAX_PRODUCTS, MAX_TERMS, Dim, Mono, Terms
from symgraph.errors import DimError


def plus(left: Terms, right: Terms, factor: int = 1) -> Terms:
    """`left + factor*right`."""
    result = left.copy()
    for mono, coefficient in right.items():
        value = result.get(mono, 0) + factor * coefficient
        if value:
            result[mono] = value
        else:
            result.pop(mono, None)
    return result


def leave_out(terms: Terms, atom: Dim) -> Terms:
    """The terms without the one that is `atom` alone."""
    rest = terms.copy()
    rest.pop((atom,), None)
    return rest


def scaled(terms: Terms, factor: int) -> Terms:
    """`factor*terms`."""
    if not factor:
        return {}
    return {mono: factor * coefficient for mono, coefficient in terms.items()}


def join(left: Mono, right: Mono) -> Mono:
    """The product of two products of atoms, sorted."""
    if not left:
        return right
    if not right:
        return left
    if len(left) + len(right) > MAX_DEGREE:
        raise DimError(f"a size formula multiplies more than {MAX_DEGREE} sizes with each other.")
    if left[-1].order <= right[0].order:
        return left + right
    return tuple(sorted(left + right, key=_order))


def _order(atom: Dim) -> tuple[int, str, int]:
    return atom.order


def times(left: Terms, right: Terms) -> Terms:
    """`left*right`. Raises DimError when the product would have too many terms."""
    if len(left) * len(right) > MAX_PRODUCTS:
        raise DimError(
            f"the product of size formulas with {len(left)} and {len(right)} terms is too large: "
            f"at most {MAX_TERMS} terms and {MAX_PRODUCTS} products are allowed."
        )
    result: Terms = {}
    for first, a in left.items():
        for second, b in right.items():
            mono = join(first, second)
            result[mono] = result.get(mono, 0) + a * b
    return {mono: value for mono, value in result.items() if value}


def without(mono: Mono, divisor: Mono) -> Mono | None:
    """`mono / divisor`, or None if it does not divide."""
    if not divisor:
        return mono
    if len(divisor) > len(mono):
        return None
    rest = list(mono)
    for factor in divisor:
        for position, candidate in enumerate(rest):
            if candidate is factor:
                del rest[position]
                break
        else:
            return None
    return tuple(rest)


def _rank(mono: Mono) -> tuple[int, tuple[tuple[int, str, int], ...]]:
    return len(mono), tuple(atom.order for atom in mono)


def leading(terms: Terms) -> Mono:
    """The product of highest degree, the last one among equals."""
    return max(terms, key=_rank)


def divide(terms: Terms, divisor: Terms) -> tuple[Terms, Terms]:
    """(quotient, rest) with `terms = quotient*divisor + rest`; the rest is {} iff it divides.

    No term of the rest can be reduced further by the leading term of the divisor, which makes the
    pair unique: adding `m*divisor` to `terms` adds `m` to the quotient and leaves the rest.
    """
    head = leading(divisor)
    unit = divisor[head]
    work = dict(terms)
    quotient: Terms = {}
    rest: Terms = {}
    while work:
        mono = leading(work)
        coefficient = work[mono]
        reduced = without(mono, head)
        count = 0
        if reduced is not None:
            count, coefficient = divmod(coefficient, unit)
        if reduced is not None and count:
            quotient[reduced] = quotient.get(reduced, 0) + count
            for other, value in divisor.items():
                product = join(other, reduced)
                work[product] = work.get(product, 0) - count * value
                if not work[product]:
                    del work[product]
        if coefficient:
            rest[mono] = coefficient
        work.pop(mono, None)
    return quotient, rest


def exact_quotient(terms: Terms, divisor: Terms) -> Terms | None:
    """`terms / divisor` if it is a polynomial with integer coefficients, else None."""
    quotient, rest = divide(terms, divisor)
    return None if rest else quotient


def content(terms: Terms) -> int:
    """The greatest common divisor of all coefficients."""
    return gcd(*terms.values())


def common_factor(terms: Terms, start: Mono | None = None) -> Mono:
    """The atoms that divide every term (and `start`)."""
    common = start
    for mono in terms:
        if common is None:
            common = mono
            continue
        kept: list[Dim] = []
        rest = list(mono)
        for factor in common:
            for position, candidate in enumerate(rest):
                if candidate is factor:
                    del rest[position]
                    kept.append(factor)
                    break
        common = tuple(kept)
        if not common:
            break
    return common or ()
