"""Sums, products, floor division and remainders of sizes, each in the one normal form."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from math import gcd
from typing import TypeVar

from symgraph.dims.bounds import bounds, bounds_of, lower
from symgraph.dims.core import Dim, Size, Terms, as_size, atom, operations, polynomial, terms_of
from symgraph.dims.polynomial import (
    common_factor,
    content,
    divide,
    exact_quotient,
    leave_out,
    plus,
    scaled,
    times,
    without,
)
from symgraph.errors import DimError

_CACHE_SIZE = 1 << 14
_ONE: Terms = {(): 1}

Function = TypeVar("Function", bound=Callable[..., object])


def cached(function: Function) -> Function:
    """Keep the last results of a function of sizes; `core.forget` lets go of them."""
    wrapped = lru_cache(maxsize=_CACHE_SIZE)(function)
    operations.caches.append(wrapped.cache_clear)
    return wrapped  # type: ignore[return-value]


@cached
def add(left: Size, right: Size) -> Size:
    """`left + right`."""
    return polynomial(plus(terms_of(left), terms_of(right)))


@cached
def subtract(left: Size, right: Size) -> Size:
    """`left - right`."""
    return polynomial(plus(terms_of(left), terms_of(right), -1))


@cached
def multiply(left: Size, right: Size) -> Size:
    """`left * right`."""
    if type(right) is int:
        return polynomial(scaled(terms_of(left), right))
    if type(left) is int:
        return polynomial(scaled(terms_of(right), left))
    return polynomial(times(terms_of(left), terms_of(right)))


def power(base: Size, exponent: int) -> Size:
    """`base ** exponent` for an exponent >= 0. Raises DimError for a negative one."""
    if exponent < 0:
        raise DimError(f"({base})**({exponent}) is no size: the exponent is negative.")
    result: Size = 1
    while exponent:
        if exponent & 1:
            result = multiply(result, base)
        exponent >>= 1
        if exponent:
            base = multiply(base, base)
    return result


def product(sizes: Iterable[Size]) -> Size:
    """The product of sizes, 1 for none.

    >>> product((2, 3, 4))
    24
    """
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def total(sizes: Iterable[Size]) -> Size:
    """The sum of sizes, 0 for none; in one pass, for the long sums of costs.

    >>> total((2, 3, 4))
    9
    """
    number = 0
    terms: Terms = {}
    for size in sizes:
        if type(size) is int:
            number += size
            continue
        for mono, coefficient in terms_of(as_size(size)).items():
            terms[mono] = terms.get(mono, 0) + coefficient
    terms[()] = terms.get((), 0) + number
    return polynomial({mono: value for mono, value in terms.items() if value})


@cached
def floor_divide(left: Size, right: Size) -> Size:
    """`left // right`, rounded down. Raises DimError unless `right` is never 0 and of one sign."""
    if type(right) is int:
        if right == 0:
            raise DimError(f"({left})//0: division of a size by zero.")
        if type(left) is int:
            return left // right
        if right < 0:
            return floor_divide(multiply(left, -1), -right)
        return _floor_by_number(terms_of(left), right)
    low, high = bounds(right)
    if high is not None and high <= -1:
        return floor_divide(multiply(left, -1), multiply(right, -1))
    if low is None or low < 1:
        raise DimError(
            f"({left})//({right}): the divisor may be 0 for admissible sizes.",
            fix="only sizes that are proven >= 1 can be divided by",
        )
    return _floor_by_formula(terms_of(left), terms_of(right))


def modulo(left: Size, right: Size) -> Size:
    """`left % right` with the sign of `right`, in the form `left - right*(left//right)`."""
    if type(left) is int and type(right) is int and right:
        return left % right
    return subtract(left, multiply(right, floor_divide(left, right)))


def ceil_div(left: Size, right: Size) -> Size:
    """`left / right` rounded up, in the form `(left + right - 1)//right`.

    >>> ceil_div(7, 2)
    4
    """
    left, right = as_size(left), as_size(right)
    if type(left) is int and type(right) is int:
        if right == 0:
            raise DimError(f"({left})/0: division of a size by zero.")
        return -(-left // right)
    if (bounds(right)[0] or 0) < 1:
        return subtract(0, floor_divide(subtract(0, left), right))
    return floor_divide(subtract(add(left, right), 1), right)


def _floor_by_number(terms: Terms, divisor: int) -> Size:
    """`floor(terms/divisor)` for a positive number: see `docs` of each step."""
    outside: Terms = {}
    while True:
        # What divides goes outside: the inside has coefficients in 1 .. divisor-1.
        inside: Terms = {}
        for mono, coefficient in terms.items():
            whole, part = divmod(coefficient, divisor)
            if whole:
                outside = plus(outside, {mono: whole})
            if part:
                inside[mono] = part
        if not any(inside):
            return polynomial(outside)
        # A common factor cancels: floor((g*s + r)/(g*q)) = floor((s + r//g)/q).
        factor = gcd(divisor, *(value for mono, value in inside.items() if mono))
        if factor > 1:
            divisor //= factor
            inside = {mono: v // factor for mono, v in inside.items() if v >= factor}
            if divisor == 1:
                return polynomial(plus(outside, inside))
        # floor((p//a + s)/b) = floor((p + a*s)/(a*b)).
        nested = _only_unit_floor(inside)
        if nested is None:
            break
        top, bottom = nested.args
        rest = leave_out(inside, nested)
        terms = plus(terms_of(top), times(terms_of(bottom), rest))
        if type(bottom) is not int:
            whole_size = _floor_by_formula(terms, scaled(terms_of(bottom), divisor))
            return polynomial(plus(outside, terms_of(whole_size)))
        divisor *= bottom
    low, high = bounds_of(inside)
    if low is not None and high is not None and low // divisor == high // divisor:
        return polynomial(plus(outside, {(): low // divisor} if low // divisor else {}))
    return _with_floor(outside, inside, divisor, low, high)


def _with_floor(
    outside: Terms, inside: Terms, divisor: Size, low: int | None, high: int | None
) -> Size:
    top = polynomial(inside)

    def quotient_bounds() -> tuple[int | None, int | None]:
        least, most = bounds(divisor)
        least = max(least or 1, 1)  # known, though maybe not proven anew for this form
        return _quotient_end(low, least, most), _quotient_end(high, most, least)

    floor = atom("//", (top, divisor), quotient_bounds)
    return polynomial(plus(outside, {(floor,): 1}))


def _quotient_end(end: int | None, near: int | None, far: int | None) -> int | None:
    """The bound of `p//q` from the bound `end` of p; q in 1.. lies between `near` and `far`.

    For the lower end `near` is the least q and `far` the greatest; for the upper end reversed.
    A quotient nears 0 (or -1) as q grows: which end of q counts depends on the sign of p.
    """
    if end is None:
        return None
    if end >= 0:
        divisor = far
        return 0 if divisor is None else end // divisor
    return -1 if near is None else end // near


def _only_unit_floor(terms: Terms) -> Dim | None:
    found = None
    for mono, coefficient in terms.items():
        if coefficient == 1 and len(mono) == 1 and mono[0].kind == "//":
            if found is not None:
                return None
            found = mono[0]
    return found


def _floor_by_formula(terms: Terms, divisor: Terms) -> Size:
    """`floor(terms/divisor)` for a divisor that is proven >= 1."""
    outside, inside = divide(terms, divisor)
    if not inside:
        return polynomial(outside)
    reduced, smaller = _cancel(inside, divisor)
    if _positive(smaller):  # it is; but only what can be proven anew can be rebuilt later
        inside, divisor = reduced, smaller
    if list(divisor) == [()]:
        return polynomial(plus(outside, terms_of(_floor_by_number(inside, divisor[()]))))
    nested = _only_unit_floor(inside)
    if nested is not None and _positive(times(terms_of(nested.args[1]), divisor)):
        top, bottom = nested.args
        rest = leave_out(inside, nested)
        inner = plus(terms_of(top), times(terms_of(bottom), rest))
        whole = _floor_by_formula(inner, times(terms_of(bottom), divisor))
        return polynomial(plus(outside, terms_of(whole)))
    low, high = bounds_of(inside)
    if low is not None and low >= 0 and _nonnegative(plus(plus(divisor, inside, -1), _ONE, -1)):
        return polynomial(outside)
    if high is not None and high < 0 and _nonnegative(plus(divisor, inside)):
        return polynomial(plus(outside, _ONE, -1))
    return _with_floor(outside, inside, polynomial(divisor), low, high)


def _nonnegative(terms: Terms) -> bool:
    low = lower(terms)
    return low is not None and low >= 0


def _cancel(terms: Terms, divisor: Terms) -> tuple[Terms, Terms]:
    """Both without their common factors: a number, sizes >= 1, or the terms themselves."""
    shared = tuple(
        factor
        for factor in common_factor(terms, common_factor(divisor))
        if factor.range is not None and (factor.range[0] or 0) >= 1
    )
    if shared:
        terms = {_reduced(mono, shared): value for mono, value in terms.items()}
        divisor = {_reduced(mono, shared): value for mono, value in divisor.items()}
    number = gcd(content(divisor), *(value for mono, value in terms.items() if mono))
    if number > 1:
        terms = {mono: v // number for mono, v in terms.items() if v // number}
        divisor = {mono: value // number for mono, value in divisor.items()}
    if any(terms) and len(terms) > 1 and _positive(terms):
        quotient = exact_quotient(divisor, terms)
        if quotient is not None:
            return _ONE, quotient
    return terms, divisor


def _positive(terms: Terms) -> bool:
    low = lower(terms)
    return low is not None and low >= 1


def _reduced(mono: tuple[Dim, ...], shared: tuple[Dim, ...]) -> tuple[Dim, ...]:
    rest = without(mono, shared)
    return mono if rest is None else rest


operations.add = add
operations.subtract = subtract
operations.multiply = multiply
operations.floor_divide = floor_divide
operations.modulo = modulo
operations.power = power
operations.total = total
