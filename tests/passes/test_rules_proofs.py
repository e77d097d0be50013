"""Rules proved: the old expression minus the new one is 0, by SymPy, for all real operands.

Every element of an operand is a symbol. Symbols stand for p or -p with p > 0 where the sign
decides, or for log(u) with u > 0, under which exponentials become fractions. Zero itself follows
by continuity. Rules that only move elements give the very same formulas.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import sympy as sp

from symgraph.graph.node import Value
from symgraph.graph.samples import Arg
from symgraph.passes.patterns import P, wild
from symgraph.passes.rules import rule
from tests.passes.exact import FORMULAS, exact
from tests.passes.rule_cases import CASES, Case, Site, each

Array = Any
Formula = Any

# Rules that are not about real numbers, or of which SymPy finds no proof, and why. For each there
# are the other tests: bits, ULPs, values.
UNPROVED: Mapping[str, str] = {
    "round_twice": "SymPy rounds no halves to the even number",
    "cast_of_cast": "about bits: test_rules_values.py tries every number of the short dtypes",
    "constant_folding": "what comes out is rounded to a float",
}


# Operations that replace an operand by this number below it, where all that comes is 0 anyway.
LIMITS = {"silu": -1000, "gelu": -100}


def symbols(case: Case, site: Site, anywhere: bool) -> dict[Value, Array]:
    """Make a symbol for each element; elementwise expressions need only one element.

    A symbol is real anywhere, or positive where the example draws positive numbers.
    """
    made: dict[Value, Array] = {}
    for name, value in site.inputs.items():
        array = np.empty(value.shape, object)
        positive = not anywhere and case.operands[name].low >= 0
        known = {} if value.dtype == "bool" else {"positive": True} if positive else {"real": True}
        for place in np.ndindex(*value.shape):
            label = name if site.elementwise else "_".join(map(str, (name, *place)))
            array[place] = sp.Symbol(label, **known)
        made[value] = array
    return made


def pairs(case: Case, site: Site, anywhere: bool) -> list[tuple[Formula, Formula]]:
    """Give old and new formula of each element, each pair once."""
    old, new = exact([site.old, site.new], symbols(case, site, anywhere), FORMULAS)
    assert old.shape == new.shape
    made = dict.fromkeys(zip(old.reshape(-1).tolist(), new.reshape(-1).tolist()))
    limit = LIMITS.get(case.rule.name)
    return list(made) if limit is None else [(old, _unlimited(new, limit)) for old, new in made]


def _unlimited(formula: Formula, limit: int) -> Formula:
    """Give a formula as it is above the limit of its operand."""
    return formula.replace(
        lambda part: isinstance(part, sp.Max) and sp.Integer(limit) in part.args,
        lambda part: sp.Max(*(one for one in part.args if one != limit)),
    )


def proved(case: Case) -> bool:
    """Tell whether every element's formulas are shown to be equal."""
    site = case.site()
    assert site is not None
    same = equivalent if site.old.dtype == "bool" else equal
    return any(
        all(same(old, new) for old, new in pairs(case, site, anywhere))
        for anywhere in (True, False)
    )


def equivalent(old: Formula, new: Formula) -> bool:
    """Tell whether two formulas of logic are the same."""
    return bool(sp.simplify(sp.Equivalent(old, new)) == sp.true)


def equal(old: Formula, new: Formula) -> bool:
    """Try one way after another to show that two formulas are the same."""
    if old == new:
        return True
    difference = old - new
    if sp.expand(difference) == 0:
        return True
    return any(
        all(_zero(difference.subs(one)) for one in way(sorted(_symbols(difference), key=str)))
        for way in (_by_signs, _by_order, _by_exponentials)
    )


def _symbols(difference: Formula) -> list[Any]:
    return [x for x in difference.free_symbols if x.is_real]


def _positive(name: str) -> Any:
    return sp.Symbol(name, positive=True)


def _by_signs(own: list[Any]) -> Iterator[Mapping[Any, Any]]:
    """Give every choice of signs."""
    if len(own) > 3:
        yield {}
        return
    for signs in itertools.product((1, -1), repeat=len(own)):
        if any(sign < 0 and x.is_positive for x, sign in zip(own, signs)):
            continue
        yield {x: sign * _positive(f"{x}p") for x, sign in zip(own, signs)}


def _by_order(own: list[Any]) -> Iterator[Mapping[Any, Any]]:
    """Give the three orders of two symbols, whose difference is the logarithm of 1 + v."""
    if len(own) != 2:
        yield {}
        return
    x, y = own
    base, above = sp.log(_positive("u")), sp.log(1 + _positive("v"))
    yield {x: base, y: base}
    yield {x: base + above, y: base}
    yield {x: base, y: base + above}


def _by_exponentials(own: list[Any]) -> Iterator[Mapping[Any, Any]]:
    """Give each symbol as a logarithm."""
    yield {x: sp.log(_positive(f"{x}u")) for x in own}


def _zero(difference: Formula) -> bool:
    """Tell whether SymPy makes 0 of a formula."""
    ways: Sequence[Callable[[Any], Any]] = (
        sp.expand, sp.together, lambda f: sp.expand(sp.expand_log(f)),
        lambda f: sp.expand(f.rewrite(sp.erf)), sp.simplify,
        lambda f: sp.simplify(f.rewrite(sp.exp)),
        lambda f: sp.simplify(sp.logcombine(sp.expand_log(sp.simplify(f)))),
    )  # fmt: skip
    return any(way(difference) == 0 for way in ways)


@each([case for case in CASES if case.rule.name not in UNPROVED], "proof", whole=False)
def test_proved(case: Case) -> None:
    assert proved(case), f"{case.id}: SymPy finds no proof, and UNPROVED gives no reason"


@pytest.mark.parametrize("name", UNPROVED)
def test_the_table_holds_only_what_is_not_proved(name: str) -> None:
    own = [case for case in CASES if case.rule.name == name]
    assert own, f"there is no rule `{name}`"
    assert not all(proved(case) for case in own), f"{name} is proved: take it from the table"


x, y = wild("x y")
WRONG = {
    "sign": rule("wrong", P.log(P.sigmoid(x)), P.softplus(x)),
    "one_sign_only": rule("wrong", P.sqrt(P.square(x)), x),
    "half": rule("wrong", P.expm1(x) / (1 + P.exp(x)), P.tanh(x)),
    "order": rule("wrong", P.log(P.exp(x) + P.exp(y)), P.maximum(x, y)),
    "row": rule("wrong", P.sum(P.exp(x), axis=(1,), keepdims=True),
                P.exp(P.sum(x, axis=(1,), keepdims=True))),
    "elements": rule("wrong", P.sum(x, axis=(0,), keepdims=True),
                     lambda F, x: F.sum(F.flip(x, 1), axis=(0,), keepdims=True)),
    "constant": rule("wrong", x * 0.5, x * 0.51),
    "logic": rule("wrong", P.logical_and(x, True), lambda F, x: F.ones_like(x),
                  dtypes="any", example={"x": Arg((2, 3), "bool")}),
}  # fmt: skip


SLOW = ("half", "sign")  # SymPy tries long


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.full if one in SLOW else ()) for one in WRONG]
)
def test_a_wrong_rule_is_not_proved(name: str) -> None:
    assert not proved(Case(WRONG[name], 0))
