"""Stabilisation: expressions that overflow or cancel on the way, as operations that do not.

What a user writes from a formula, `log(1 + exp(x))` or `log(softmax(x))`, is right over the real
numbers and wrong in floats for large or small operands. These rules run to a fixed point together
with algebra and canonical form, in every function and before every gradient: the gradient of
log(softmax(x)) divides by what has become 0, and no rewriting of the result brings it back.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes

from symgraph.config import config
from symgraph.dims import product
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.leaves import Attach, SizeOf, is_constant, tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F, function_of
from symgraph.graph.samples import arg
from symgraph.graph.types import Shape, same_size
from symgraph.graph.walk import rebuild, sweep, topological
from symgraph.ops.reduce import kept
from symgraph.ops.shape import same_shape
from symgraph.passes import algebra, canonical, fold
from symgraph.passes.algebra import scale_of
from symgraph.passes.manager import rule_pass
from symgraph.passes.patterns import P, attribute, number_of, wild
from symgraph.passes.rules import Rule, local_rule, rule
from symgraph.passes.sweeper import Sweeper, allowed

_FINFO: Any = ml_dtypes.finfo  # NumPy's own does not know bfloat16

x, y = wild("x y")
A, K = attribute("A K")

WIDE = arg((2, 3), low=-9.0, high=9.0)
POSITIVE = arg((2, 3), low=0.2, high=3.0)
SHARE = arg((2, 3), low=0.0, high=1.0)
ROWS = {"A": 1}
SUMS = {"A": (1,), "K": True}


def stable(name: str, old: Any, new: Any, **options: Any) -> Rule:
    """Make a rule that is right over the reals, better in floats, and keeps the gradient."""
    return rule(name, old, new, before_grad=True, **options)


def one_axis(build: Any) -> Any:
    """Make a result for a sum over one axis only; over several there is no such operation."""
    return lambda F, x, A: build(F, x, A[0]) if len(A) == 1 else None


def along(x: Value, y: Value, axis: Any) -> bool:
    """Tell whether `y` is the same along axes of `x`: it has size 1 there, as a largest element."""
    places = axis if isinstance(axis, tuple) else (axis,)
    sizes = [y.shape[d - x.ndim] for d in places if x.ndim - d <= y.ndim]
    return all(isinstance(size, int) and size == 1 for size in sizes) and x.ndim >= y.ndim


# fmt: off
LOGARITHMS = (
    stable("log1p", P.log(1 + x), P.log1p(x), example={"x": arg((2, 3), low=-0.9, high=3.0)}),
    stable("log1p_negative", P.log(1 - x), P.log1p(-x),
           example={"x": arg((2, 3), low=-3.0, high=0.9)}),
    stable("expm1", P.exp(x) - 1, P.expm1(x)),
    stable("expm1_add", P.exp(x) + -1, P.expm1(x)),
    stable("expm1_negative", 1 - P.exp(x), -P.expm1(x)),
    stable("log_exp", P.log(P.exp(x)), x, ulps=1, example={"x": WIDE}),
    stable("log1p_expm1", P.log1p(P.expm1(x)), x, ulps=1, example={"x": WIDE}),
    stable("log_exp_times", P.log(P.exp(x) * y), x + P.log(y),
           example={"x": WIDE, "y": POSITIVE}),
    stable("log_exp_over", P.log(P.exp(x) / y), x - P.log(y),
           example={"x": WIDE, "y": POSITIVE}),
    stable("log_over_exp", P.log(y / P.exp(x)), P.log(y) - x,
           example={"x": WIDE, "y": POSITIVE}),
    stable("log_one_over", P.log(P.reciprocal(x)), -P.log(x), example={"x": POSITIVE}),
    stable("log_sqrt", P.log(P.sqrt(x)), P.log(x) * 0.5, example={"x": POSITIVE}),
    stable("log_square", P.log(P.square(x)), P.log(P.abs(x)) * 2,
           example={"x": POSITIVE}),
    rule("log_prod", P.log(P.prod(x, axis=A, keepdims=K)), P.sum(P.log(x), axis=A, keepdims=K),
         sound="fast", about="The logarithms of -1 and -1 are NaN, that of their product is 0.",
         example={"x": POSITIVE, **SUMS}),
    stable("logaddexp", P.log(P.exp(x) + P.exp(y)), P.logaddexp(x, y),
           example={"x": WIDE, "y": WIDE}),
)

SOFTPLUS = (
    stable("softplus", P.log1p(P.exp(x)), P.softplus(x), example={"x": WIDE},
           written=[lambda x: F.log(1 + F.exp(x)), lambda x: F.log(F.exp(x) + 1.0),
                    lambda x: F.log(F.reshape(1 + F.exp(F.reshape(x, (6,))), (3, 2)))]),
    stable("logaddexp_zero", P.logaddexp(x, 0), P.softplus(x), example={"x": WIDE}),
    stable("log_sigmoid", P.log(P.sigmoid(x)), -P.softplus(-x), example={"x": WIDE},
           written=[lambda x: F.log(1 / (1 + F.exp(-x))),
                    lambda x: F.log(F.exp(x) / (1 + F.exp(x))),
                    lambda x: -F.log(1 / (1 + F.exp(x))),
                    lambda x: F.log(1 - F.sigmoid(x))]),
    stable("log1p_sigmoid", P.log1p(-P.sigmoid(x)), -P.softplus(x), example={"x": WIDE}),
    stable("binary_cross_entropy", y * P.softplus(-x) + (1 - y) * P.softplus(x),
           P.binary_cross_entropy_with_logits(x, y), example={"x": WIDE, "y": SHARE},
           written=[
               lambda x, y: -(y * F.log(F.sigmoid(x)) + (1 - y) * F.log(1 - F.sigmoid(x))),
               lambda x, y: -y * F.log(F.sigmoid(x)) - (1 - y) * F.log(1 - F.sigmoid(x)),
               lambda x, y: -F.mean(y * F.log(1 / (1 + F.exp(-x)))
                                    + (1.0 - y) * F.log(1.0 - 1 / (1 + F.exp(-x)))),
           ]),
    stable("binary_cross_entropy_short", P.softplus(x) - x * y,
           P.binary_cross_entropy_with_logits(x, y), example={"x": WIDE, "y": SHARE}),
)

SIGMOID = (
    stable("sigmoid", P.reciprocal(1 + P.exp(-x)), P.sigmoid(x), example={"x": WIDE},
           written=[lambda x: 1 / (1 + F.exp(-x)), lambda x: 1.0 / (F.exp(-x) + 1.0)]),
    stable("sigmoid_negative", P.reciprocal(1 + P.exp(x)), P.sigmoid(-x), example={"x": WIDE}),
    stable("sigmoid_quotient", P.exp(x) / (1 + P.exp(x)), P.sigmoid(x), example={"x": WIDE}),
    stable("times_sigmoid", y / (1 + P.exp(-x)),
           lambda F, x, y: None if number_of(y) == 1 else y * F.sigmoid(x), ulps=8,
           example={"x": WIDE}),
    stable("one_minus_sigmoid", 1 - P.sigmoid(x), P.sigmoid(-x), example={"x": WIDE}),
    stable("silu", x * P.sigmoid(x), P.silu(x), ulps=8, example={"x": WIDE},
           written=[lambda x: x / (1 + F.exp(-x))]),
)

HYPERBOLIC = (
    stable("tanh", (P.exp(x) - P.exp(-x)) / (P.exp(x) + P.exp(-x)), P.tanh(x),
           example={"x": WIDE}),
    stable("tanh_half", P.expm1(x) / (1 + P.exp(x)), P.tanh(x * 0.5), example={"x": WIDE},
           written=[lambda x: (1 - F.exp(-2 * x)) / (1 + F.exp(-2 * x)),
                    lambda x: (F.exp(2 * x) - 1) / (F.exp(2 * x) + 1)]),
    stable("sinh", (P.exp(x) - P.exp(-x)) * 0.5, P.sinh(x), example={"x": WIDE},
           written=[lambda x: (F.exp(x) - F.exp(-x)) / 2]),
    stable("cosh", (P.exp(x) + P.exp(-x)) * 0.5, P.cosh(x), example={"x": WIDE},
           written=[lambda x: (F.exp(x) + F.exp(-x)) / 2]),
    stable("one_over_exp", P.reciprocal(P.exp(x)), P.exp(-x), example={"x": WIDE}),
    stable("sqrt_exp", P.sqrt(P.exp(x)), P.exp(x * 0.5), example={"x": WIDE}),
)

SOFTMAX = (
    stable("softmax", P.exp(x) / P.sum(P.exp(x), axis=A, keepdims=True),
           one_axis(lambda F, x, axis: F.softmax(x, axis=axis)), example={"A": (1,)},
           written=[lambda x: F.exp(x) / F.reshape(F.sum(F.exp(x), axis=1), (2, 1)),
                    lambda x: F.exp(x) / F.broadcast_to(
                        F.sum(F.exp(x), axis=1, keepdims=True), (2, 3))]),
    stable("softmax_shifted", P.softmax(x - y, axis=A),
           lambda F, x, y, A: F.softmax(x, axis=A) if along(x, y, A) else None,
           example={"y": arg((2, 1)), "A": 1},
           written=[lambda x, y: F.exp(x - F.max(x, axis=1, keepdims=True)) / F.sum(
               F.exp(x - F.max(x, axis=1, keepdims=True)), axis=1, keepdims=True)]),
    stable("log_softmax", P.log(P.softmax(x, axis=A)), P.log_softmax(x, axis=A), example=ROWS,
           written=[lambda x: F.log(F.exp(x) / F.sum(F.exp(x), axis=1, keepdims=True)),
                    lambda x: F.log(F.reshape(F.softmax(x, axis=1), (6,))),
                    lambda x: F.log(F.permute_dims(F.softmax(x, axis=1), (1, 0)))]),
    stable("log_softmax_shifted", P.log_softmax(x - y, axis=A),
           lambda F, x, y, A: F.log_softmax(x, axis=A) if along(x, y, A) else None,
           example={"y": arg((2, 1)), "A": 1}),
    stable("logsumexp", P.log(P.sum(P.exp(x), axis=A, keepdims=K)),
           P.logsumexp(x, axis=A, keepdims=K), example=SUMS,
           written=[lambda x: F.log(F.sum(F.exp(x))), lambda x: F.log(F.exp(x).sum(axis=0))]),
    stable("logsumexp_shifted", P.logsumexp(x - y, axis=A, keepdims=True) + y,
           lambda F, x, y, A: (F.logsumexp(x, axis=A, keepdims=True)
                               if along(x, y, A) else None),
           example={"y": arg((2, 1)), "A": (1,)}),
    stable("log_softmax_difference", x - P.logsumexp(x, axis=A, keepdims=True),
           one_axis(lambda F, x, axis: F.log_softmax(x, axis=axis)), example={"A": (1,)}),
    stable("exp_log_softmax", P.exp(P.log_softmax(x, axis=A)), P.softmax(x, axis=A),
           example=ROWS),
)

ROOTS = (
    stable("sqrt_square", P.sqrt(P.square(x)), P.abs(x), ulps=1,
           written=[lambda x: F.sqrt(x * x), lambda x: x / F.sqrt(x * x)]),
    rule("over_abs", x / P.abs(x), P.sign(x), sound="fast", about="0 / 0 is NaN, here it is 0."),
    stable("one_minus_erf", 1 - P.erf(x), P.erfc(x)),
    stable("one_plus_erf", 1 + P.erf(x), P.erfc(-x)),
    stable("one_minus_cos", 1 - P.cos(x), P.square(P.sin(x * 0.5)) * 2),
    stable("one_minus_cos_square", 1 - P.square(P.cos(x)), P.square(P.sin(x))),
    stable("one_minus_sin_square", 1 - P.square(P.sin(x)), P.square(P.cos(x))),
)
# fmt: on


# -- what a pattern cannot say --------------------------------------------------------------------


def two_factors(value: Value) -> tuple[float, list[Value]]:
    """Split a product into the number in it and two other factors; none where there are more."""
    number = 1.0
    parts: list[Value] = []
    waiting = [value]
    while waiting:
        if len(parts) + len(waiting) > 2:
            return number, []
        part = waiting.pop()
        if part.op.name == "multiply" or (part.op.name == "divide" and scale_of(part)[0] != 1.0):
            scale, rest = scale_of(part)
            if rest is not part:
                number *= scale
                waiting.append(rest)
            else:
                waiting.extend(reversed(part.inputs))
        else:
            parts.append(part)
    return number, parts


@local_rule(
    "multiply",
    example=lambda x: 0.5 * x * (1 + F.erf(x / math.sqrt(2))),
    operands={"x": WIDE},
    more=[
        (lambda x: x * 0.5 * (1.0 + F.erf(x * math.sqrt(0.5))), {"x": WIDE}),
        (lambda x: x * (0.5 * (1 + F.erf(x / math.sqrt(2)))), {"x": WIDE}),
        (lambda x: 0.5 * (x * F.erfc(-math.sqrt(0.5) * x)), {"x": WIDE}),
    ],
    sound="real",
    ulps=200,  # far out, where the error of both grows as x * x
    dtypes="float",
    before_grad=True,
)
def gelu(value: Value) -> Value | None:
    """Write x times the normal distribution of x, x/2 (1 + erf(x/sqrt 2)), as one operation."""
    number, parts = two_factors(value)
    if number != 0.5 or len(parts) != 2:
        return None
    near = 4 * float(_FINFO(numpy_dtype(value.dtype)).eps)  # as the number may be written or round
    for tail, base in (parts, parts[::-1]):
        if tail.op.name == "erfc":
            scale, inside = scale_of(tail.inputs[0])
            if inside is base and math.isclose(scale, -math.sqrt(0.5), rel_tol=near):
                return F.gelu(base)
    return None


def mean_of(value: Value, shape: Shape | None = None) -> tuple[Value, tuple[int, ...]] | None:
    """Tell of what, and over which axes, a value is the mean, in a shape with 1 for these axes.

    `shape` is the one in which it finally stands: a mean may drop its axes and get them back.
    """
    final = value.shape if shape is None else shape
    found = _mean_of(value)
    return found if found and same_shape(final, kept(found[0].shape, found[1])) else None


def _mean_of(value: Value) -> tuple[Value, tuple[int, ...]] | None:
    """Tell of what, and over which axes, a value is the mean, in whatever shape."""
    value = _unshaped(value)
    if value.op.name not in ("divide", "multiply") or value.inputs[0].op.name != "sum":
        return None
    total, count = value.inputs
    axis = total.op.axis  # type: ignore[attr-defined]
    (summed,) = total.inputs
    size = product(summed.shape[d] for d in axis)
    number = number_of(count)
    if value.op.name == "multiply":
        number = 1.0 / number if number else None
    same = number == size if number is not None else _is_size(count, size)
    return (summed, axis) if axis and same else None


def _unshaped(value: Value) -> Value:
    return value.inputs[0] if value.op.name == "reshape" else value


def _is_size(value: Value, size: Any) -> bool:
    return isinstance(value.op, SizeOf) and same_size(value.op.dim, size)


def _centred(value: Value) -> tuple[Value, tuple[int, ...]] | None:
    """Tell of what, and over which axes, a value is the distance from the mean."""
    if value.op.name != "subtract":
        return None
    mean = mean_of(value.inputs[1])
    return mean if mean is not None and mean[0] is value.inputs[0] else None


def _spread_of(value: Value, root: str) -> tuple[Value, tuple[int, ...], float] | None:
    """Split a root, sqrt or rsqrt, of mean(square(x)) + epsilon into x, axes and epsilon."""
    inner = _unshaped(value)
    if inner.op.name != root:
        return None
    (under,) = inner.inputs
    epsilon = 0.0
    if under.op.name == "add" and number_of(under.inputs[1]) is not None:
        epsilon, under = float(number_of(under.inputs[1])), under.inputs[0]
    mean = mean_of(under, value.shape)
    if mean is None or mean[0].op.name != "square" or not 0.0 < epsilon < math.inf:
        return None
    return mean[0].inputs[0], mean[1], epsilon


NORM_ROWS = {"x": arg((3, 8), low=-3.0, high=3.0)}


@local_rule(
    "divide", "multiply",
    example=lambda x: (x - x.mean(axis=1, keepdims=True))
    / F.sqrt(F.var(x, axis=1, keepdims=True) + 1e-5),
    operands=NORM_ROWS,
    more=[
        (lambda x: x / F.sqrt(F.mean(x * x, axis=1, keepdims=True) + 1e-6), NORM_ROWS),
        (lambda x: x * F.rsqrt(F.mean(x**2, axis=1, keepdims=True) + 1e-6), NORM_ROWS),
        (lambda x: x / F.sqrt(F.mean(x * x, axis=1) + 1e-6)[:, None], NORM_ROWS),
    ],
    sound="real",
    ulps=32,
    dtypes="float",
    before_grad=True,
)  # fmt: skip
def norm_of_rows(value: Value) -> Value | None:
    """Write what is divided by the root of its mean square as a layer norm or an RMS norm."""
    first, second = value.inputs
    if value.op.name == "divide":
        spread = _spread_of(second, "sqrt")
    else:
        spread = _spread_of(second, "rsqrt")
        if spread is None:
            first, spread = second, _spread_of(first, "rsqrt")
    if spread is None or spread[0] is not first:
        return None
    base, axis, epsilon = spread
    if axis != tuple(range(base.ndim - len(axis), base.ndim)):
        return None
    centred = _centred(base)
    if centred is not None and centred[1] == axis:
        return F.layer_norm(centred[0], axis=axis, epsilon=epsilon)
    return F.rms_norm(base, axis=axis, epsilon=epsilon)


@local_rule(
    "subtract",
    example=lambda x: (
        F.mean(x * x, axis=1, keepdims=True) - F.square(F.mean(x, axis=1, keepdims=True))
    ),
    operands=NORM_ROWS,
    more=[(lambda x: F.mean(x**2, axis=1) - F.mean(x, axis=1) ** 2, NORM_ROWS)],
    sound="real",
    ulps=16,
    dtypes="float",
    before_grad=True,
)
def variance(value: Value) -> Value | None:
    """Average squares of distances from the mean, which cannot cancel as mean(x^2) - mean(x)^2."""
    squares, square = value.inputs
    inner = _unshaped(square)
    if inner.op.name != "square" or not same_shape(squares.shape, square.shape):
        return None
    first, second = _mean_of(squares), _mean_of(inner.inputs[0])
    if first is None or second is None or first[0].op.name != "square":
        return None
    (base,) = first[0].inputs
    if base is not second[0] or first[1] != second[1]:
        return None
    away = base - F.mean(base, axis=first[1], keepdims=True)
    return F.reshape(F.mean(away * away, axis=first[1], keepdims=True), value.shape)


RULES = (
    *LOGARITHMS, *SOFTPLUS, *SIGMOID, *HYPERBOLIC, *SOFTMAX, *ROOTS, gelu, norm_of_rows, variance,
)  # fmt: skip

EVERY = (*RULES, *algebra.RULES, *canonical.RULES, *fold.RULES)

stabilise = rule_pass("stabilise", stage="stabilise", rules=EVERY)


# -- before differentiation -----------------------------------------------------------------------


@function_of
def before_grad(outputs: list[Value], keep: list[Value]) -> list[Value]:
    """Give outputs rewritten by the rules that keep gradients; values in `keep` stay as they are.

    `grad` and `vjp` differentiate what this gives. A value that is differentiated by must not
    vanish into an operation that covers it, so it is hidden behind an input while rules run. So
    are attached updates: whoever compiles loss and gradient must find the same update twice.
    """
    if config.rewrites == "none":
        return outputs
    before = topological(outputs)
    attached = [new for node in before if isinstance(node.op, Attach) for new in node.inputs[1:]]
    hidden = {
        value: tensor(None, value.shape, value.dtype)
        for value in (*keep, *attached)
        if value.inputs or is_constant(value)
    }
    shown = {hiding: value for value, hiding in hidden.items()}
    if hidden:
        done = rebuild(outputs, hidden)
        outputs = [done[output] for output in outputs]
    sound = allowed()
    rules = [one for one in EVERY if one.before_grad and one.sound in sound]
    sweeper = Sweeper("before_grad", rules, len(before))
    done = sweep(outputs, sweeper.step, sweeper.settled)
    outputs = [done[output] for output in outputs]
    if shown:
        done = rebuild(outputs, shown)
        outputs = [done[output] for output in outputs]
    return outputs
