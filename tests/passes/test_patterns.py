"""The matcher: what a pattern finds, what fills its holes, and what is an error."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, ArgumentTypeError, PassError, UnknownNameError
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value
from symgraph.graph.registry import OPS, F
from symgraph.graph.samples import Arg
from symgraph.passes.patterns import P, Pattern, attribute, literal, number_of, wild
from symgraph.passes.rules import local_rule, rule

x, y, z = wild("x y z")
c, d = literal("c d")
A, B, K = attribute("A B K")


def bindings(pattern: Pattern, value: Value) -> list[Mapping[str, Any]]:
    """Give every way in which a value is a pattern."""
    return list(pattern.match(value, {}))


def matches(pattern: Pattern, value: Value) -> list[Mapping[str, Any]]:
    """Give every way, values as nodes, which compare by identity: `==` of values builds one."""
    return [of(**known) for known in bindings(pattern, value)]


def first(pattern: Pattern, value: Value) -> Mapping[str, Any] | None:
    return next(iter(matches(pattern, value)), None)


def of(**known: Any) -> Mapping[str, Any]:
    """Write bindings as `matches` gives them."""
    return {name: part.node if isinstance(part, Value) else part for name, part in known.items()}


@pytest.fixture
def a() -> Value:
    return sg.tensor("a", (2, 3))


@pytest.fixture
def b() -> Value:
    return sg.tensor("b", (2, 3))


# -- operands -------------------------------------------------------------------------------------


def test_a_hole_takes_anything_and_an_operation_only_itself(a: Value, b: Value) -> None:
    assert first(x, a + b) == of(x=a + b)
    assert first(P.exp(x), sg.exp(a)) == of(x=a)
    assert first(P.exp(x), sg.expm1(a)) is None
    assert first(P.exp(P.log(x)), sg.exp(a)) is None
    assert first(x - y, a - b) == of(x=a, y=b)
    assert first(P.where(z, x, y), sg.where(a > 0, a, b)) == of(z=a > 0, x=a, y=b)


def test_operands_of_commutative_operations_come_in_both_orders(a: Value, b: Value) -> None:
    assert matches(x + y, a + b) == [of(x=a, y=b), of(x=b, y=a)]
    assert matches(x - y, a - b) == [of(x=a, y=b)]
    assert matches(x + y, a + a) == [of(x=a, y=a)]
    for pattern in (P.exp(x) + P.log(y), P.log(y) + P.exp(x)):
        for value in (sg.exp(a) + sg.log(b), sg.log(b) + sg.exp(a)):
            assert matches(pattern, value) == [of(x=a, y=b)]
    assert first(P.exp(x) - P.log(y), sg.log(b) - sg.exp(a)) is None


@pytest.mark.parametrize("orders", list(itertools.product((False, True), repeat=3)))
def test_every_order_of_nested_operands_is_found(
    orders: tuple[bool, ...], a: Value, b: Value
) -> None:
    """y * exp(x) + (1 - y) * log(x), the operands of all three operations exchanged or not."""

    def either(swap: bool, one: Value, other: Value, build: Any) -> Value:
        return build(other, one) if swap else build(one, other)

    left = either(orders[0], b, sg.exp(a), sg.multiply)
    right = either(orders[1], 1 - b, sg.log(a), sg.multiply)
    value = either(orders[2], left, right, sg.add)
    assert matches(y * P.exp(x) + (1 - y) * P.log(x), value) == [of(x=a, y=b)]


def test_where_the_first_order_binds_and_fails_later_the_second_is_tried(
    a: Value, b: Value
) -> None:
    # x * y binds x to the first factor; only the other way agrees with the second operand
    assert matches((x * y) / y, (a * b) / b) == [of(x=a, y=b)]
    assert matches((x * y) / y, (b * a) / b) == [of(x=a, y=b)]
    assert matches((x * y) / y, (a * a) / a) == [of(x=a, y=a)]
    assert matches((x * y) / y, (a * b) / (a + b)) == []
    value = (a * b) + (b * sg.exp(a))
    found = matches(x * y + x * z, value)
    assert of(x=b, y=a, z=sg.exp(a)) in found
    assert all(one["x"] is b.node for one in found)


def test_the_same_hole_is_the_same_value(a: Value, b: Value) -> None:
    assert first(x - x, a - b) is None
    assert first(x - x, sg.exp(a) - sg.exp(a)) == of(x=sg.exp(a))
    assert first(c * x + c * y, 2 * a + 3 * b) is None
    assert first(c * x + c * y, 2 * a + 2 * b) == of(c=2, x=a, y=b)
    sums = P.sum(x, axis=A, keepdims=K) - P.sum(y, axis=A, keepdims=K)
    assert first(sums, sg.sum(a, axis=0) - sg.sum(b, axis=0)) is not None
    assert first(sums, sg.sum(a, axis=(0, 1)) - sg.sum(b, axis=0)) is None


# -- numbers --------------------------------------------------------------------------------------


def spellings(number: float) -> dict[str, Value]:
    """Ways in which one number for every element of a (2, 3) array can be written."""
    return {
        "scalar": sg.constant(number),
        "array": sg.constant(np.full((2, 3), number, np.float32)),
        "row": sg.constant(np.full((3,), number, np.float32)),
        "repeated": sg.broadcast_to(sg.constant(number), (2, 3)),
        "reshaped": sg.reshape(sg.constant(np.full((6,), number, np.float32)), (2, 3)),
        "several": sg.permute_dims(
            sg.reshape(sg.broadcast_to(sg.constant(number), (6,)), (3, 2)), (1, 0)
        ),
    }


@pytest.mark.parametrize("spelling", list(spellings(1.0)))
def test_a_number_is_found_however_it_is_written(spelling: str, a: Value) -> None:
    number = spellings(2.5)[spelling]
    assert number_of(number) == 2.5
    assert first(x * 2.5, a * number) == of(x=a)
    assert first(x * 2.5, number * a) == of(x=a)
    assert first(x * 2, a * number) is None
    assert first(x * c, a * number) == of(x=a, c=2.5)


def test_what_is_no_number(a: Value) -> None:
    assert number_of(a) is None
    assert number_of(sg.constant([1.0, 2.0])) is None
    assert number_of(sg.constant(np.zeros((0, 3), np.float32))) is None
    assert number_of(sg.shared(1.0)) is None
    assert number_of(sg.exp(sg.constant(1.0))) is None
    assert number_of(sg.constant(np.array([0.0, -0.0], np.float32))) is None
    assert first(x * c, a * sg.exp(a)) is None


def test_the_sign_of_zero_counts_and_bools_are_numbers(a: Value) -> None:
    assert first(x + 0, a + 0.0) == of(x=a)
    assert first(x + 0, a + -0.0) is None
    assert first(x + -0.0, a + -0.0) == of(x=a)
    assert first(x + -0.0, a + 0.0) is None
    assert first(P.where(True, x, y), sg.where(True, a, -a)) == of(x=a, y=-a)
    assert first(P.where(False, x, y), sg.where(True, a, -a)) is None
    assert first(x * np.nan, a * np.nan) is None
    whole = sg.tensor("n", (3,), "int32")
    assert first(x * 2, whole * 2) == of(x=whole)


def test_a_literal_is_bound_to_a_python_number(a: Value) -> None:
    (found,) = matches(P.exp(x) * c, sg.exp(a) * 0.5)
    assert type(found["c"]) is float
    assert found == of(x=a, c=0.5)
    both = matches(c * d, sg.constant(2.0) * sg.constant(3.0))
    assert both == [of(c=2.0, d=3.0), of(c=3.0, d=2.0)]


# -- behind views ---------------------------------------------------------------------------------

SEEN = {
    "reshape": lambda v: sg.reshape(v, (3, 2)),
    "permute": lambda v: sg.permute_dims(v, (1, 0)),
    "repeat": lambda v: sg.broadcast_to(v, (4, 2, 3)),
    "chain": lambda v: sg.reshape(sg.permute_dims(sg.reshape(v, (3, 2)), (1, 0)), (6,)),
}


@pytest.mark.parametrize("view", SEEN)
def test_behind_a_view_the_holes_are_what_the_view_shows(view: str, a: Value, b: Value) -> None:
    value = SEEN[view](sg.exp(a) * (b + 1))
    found = bindings(P.exp(x) * (y + 1), value)
    assert found
    for known in found:
        rebuilt = sg.exp(known["x"]) * (known["y"] + 1)
        assert rebuilt.type == value.type
        feeds = {a: np.arange(6.0).reshape(2, 3) / 7, b: np.arange(6.0, 12).reshape(2, 3)}
        before, after = interpret([value, rebuilt], feeds)
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("view", SEEN)
def test_a_view_between_two_operations(view: str, a: Value) -> None:
    value = sg.log(SEEN[view](1 + sg.exp(a)))
    (known,) = bindings(P.log(1 + P.exp(x)), value)
    before, after = interpret([value, sg.log(1 + sg.exp(known["x"]))], {a: np.ones((2, 3)) * 0.3})
    np.testing.assert_array_equal(before, after)


def test_operands_of_other_shapes_are_shown_only_where_the_view_can(a: Value) -> None:
    """A row that arithmetic repeats has no 6 elements to be reshaped."""
    row = sg.tensor("row", (3,))
    assert matches(x + y, sg.reshape(a + row, (6,))) == []
    assert matches(x + c, sg.reshape(a + 2.0, (6,))) == [of(x=sg.reshape(a, (6,)), c=2.0)]
    assert matches(x * y, sg.permute_dims(a * row, (1, 0))) == []


def test_a_number_of_which_a_view_makes_an_array_is_shown_as_that_array() -> None:
    """Under a sum it matters how often it stands there; among arrays arithmetic repeats it."""
    s = sg.scalar("s")
    value = sg.sum(sg.broadcast_to(-s, (3,)), axis=0)
    pattern = P.sum(-x, axis=A, keepdims=K)
    assert first(pattern, value) == of(x=sg.broadcast_to(s, (3,)), A=(0,), K=False)
    a = sg.tensor("a", (2, 3))
    assert of(x=sg.reshape(a, (6,)), y=s) in matches(x * y, sg.reshape(a * s, (6,)))


def test_the_same_hole_behind_a_view_and_before_it(a: Value) -> None:
    flat = sg.reshape(a, (6,))
    value = flat / sg.reshape(sg.abs(a), (6,))
    assert matches(x / P.abs(x), value) == [of(x=flat)]
    assert matches(x / P.abs(x), flat / sg.reshape(sg.abs(-a), (6,))) == []


def test_reductions_are_not_looked_for_behind_views(a: Value) -> None:
    pattern = P.sum(x, axis=A, keepdims=K)
    assert first(pattern, sg.sum(a, axis=1)) == of(x=a, A=(1,), K=False)
    assert first(pattern, sg.reshape(sg.sum(a, axis=1), (2, 1))) is None


# -- attributes -----------------------------------------------------------------------------------


def test_attributes_are_given_or_bound(a: Value) -> None:
    value = sg.softmax(a, axis=1)
    assert first(P.softmax(x, axis=1), value) == of(x=a)
    assert first(P.softmax(x, axis=0), value) is None
    assert first(P.softmax(x, axis=A), value) == of(x=a, A=1)
    inner = P.sum(P.sum(x, axis=A, keepdims=K), axis=B, keepdims=K)
    assert first(inner, sg.sum(sg.sum(a, axis=1), axis=0)) == of(x=a, A=(1,), B=(0,), K=False)
    assert first(inner, sg.sum(sg.sum(a, axis=1, keepdims=True), axis=0)) is None
    assert first(
        P.logsumexp(x, axis=A, keepdims=True), sg.logsumexp(a, axis=0, keepdims=True)
    ) == of(x=a, A=(0,))


def test_a_missing_or_unknown_attribute_is_an_error() -> None:
    with pytest.raises(PassError, match=r"softmax has the attributes \['axis'\].*says \[\]"):
        P.softmax(x)
    with pytest.raises(PassError, match=r"sum has .*'axis', 'keepdims'.*says \['axis'\]"):
        P.sum(x, axis=A)
    with pytest.raises(PassError, match="exp has the attributes"):
        P.exp(x, axis=1)


def test_an_unknown_operation_is_an_error_with_what_was_meant() -> None:
    with pytest.raises(UnknownNameError, match="no operation `sofmax`") as caught:
        P.sofmax(x, axis=1)
    assert "did you mean softmax" in caught.value.fix
    with pytest.raises(UnknownNameError, match="no operation `qqq`"):
        P.qqq(x)
    assert set(dir(P)) == set(OPS)


def test_an_operand_must_be_a_pattern_or_a_number(a: Value) -> None:
    with pytest.raises(ArgumentError, match="neither a pattern nor a number"):
        P.exp(a)
    with pytest.raises(ArgumentError, match="neither a pattern nor a number"):
        x + "1"


def test_operators_are_the_operations(a: Value, b: Value) -> None:
    for pattern, value in [
        (x + y, a + b), (1 + x, 1 + a), (x - y, a - b), (1 - x, 1 - a), (x * y, a * b),
        (2 * x, 2 * a), (x / y, a / b), (1 / x, 1 / a), (x**y, a**b), (-x, -a),
    ]:  # fmt: skip
        assert pattern.name == value.op.name
        assert first(pattern, value) is not None
        assert pattern.build(F, {"x": a, "y": b}) is value


# -- rules ----------------------------------------------------------------------------------------


def test_errors_of_a_rule() -> None:
    with pytest.raises(ArgumentError, match="`r` is 'sure', which is no soundness"):
        rule("r", P.exp(x), x, sound="sure")
    with pytest.raises(ArgumentError, match="`r` is for 'complex'"):
        rule("r", P.exp(x), x, dtypes="complex")
    with pytest.raises(ArgumentTypeError, match="must replace an operation, got Wild"):
        rule("r", x, x)
    with pytest.raises(ArgumentError, match="is no soundness"):
        local_rule("exp", sound="sure")(lambda value: None)


def test_a_rule_of_another_type_raises_and_names_both(a: Value) -> None:
    smaller = rule("smaller", P.exp(x), lambda F, x: F.sum(F.expand_dims(x, 0), axis=(0, 1, 2)))
    assert smaller(sg.exp(a)).shape == (2, 3)  # repeated: a number in place of an array
    larger = rule("larger", P.exp(x), lambda F, x: F.expand_dims(x, 0))
    with pytest.raises(PassError, match=r"larger: .* must keep the type"):
        larger(sg.exp(a))
    other = rule("other", P.exp(x), lambda F, x: F.cast(x, "float64"))
    with pytest.raises(PassError, match=r"other: the rule replaces float32.* by float64"):
        other(sg.exp(a))


def test_a_rule_that_fails_raises_with_its_name_and_the_value(a: Value) -> None:
    broken = rule("broken", P.exp(x), lambda F, x: F.sum(x, axis=7))
    with pytest.raises(PassError, match=r"broken: the rule failed on .*axis 7"):
        broken(sg.exp(a))


def test_a_rule_keeps_to_its_dtypes(a: Value) -> None:
    n = sg.tensor("n", (3,), "int32")
    floats = rule("floats", x * 2, x + x)
    assert floats(a * 2) is not None
    assert floats(n * 2) is None
    whole = rule("whole", x * 2, x + x, dtypes="integer")
    assert whole(a * 2) is None
    assert whole(n * 2) is not None
    both = rule("both", x * 2, x + x, dtypes="number")
    assert both(a * 2) is not None
    assert both(n * 2) is not None
    assert rule("any", P.logical_not(x), x, dtypes="any")(sg.logical_not(a > 0)) is not None
    assert rule("no", P.logical_not(x), x, dtypes="number")(sg.logical_not(a > 0)) is None


def test_a_rule_that_gives_nothing_or_the_same_leaves_things_as_they_are(a: Value) -> None:
    assert rule("none", P.exp(x), lambda F, x: None)(sg.exp(a)) is None
    assert rule("same", P.exp(x), P.exp(x))(sg.exp(a)) is None
    picky = rule("picky", x + y, lambda F, x, y: x if y.op.name == "exp" else None)
    assert picky(sg.exp(a) + a) is a  # the second order, after the first was refused


def test_the_example_of_a_rule_is_its_pattern(a: Value) -> None:
    made = rule("r", P.sum(x * c, axis=A, keepdims=K), x, example={"c": 3.0, "A": (1,), "K": True})
    (one,) = made.examples
    inputs, value = one.build("float64")
    assert list(inputs) == ["x"]
    assert value.type == sg.tensor("t", (2, 1), "float64").type
    assert one.operands == {"x": Arg((2, 3), low=-3.0, high=3.0)}
