"""Losses of one prediction and one target each, of the shape that both broadcast to.

None is averaged or summed: write `.mean()`. Half precisions compute in float32 and are rounded
once. Names are PyTorch's where it has the loss.
"""

from __future__ import annotations

import math
from typing import Any

from symgraph.errors import ArgumentError
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value
from symgraph.graph.precision import wide
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample

_LOWEST_LOG = -100.0  # as PyTorch limits the logarithm of a probability
_PAIR = (arg(("B", 4)), arg(("B", 4)))
_SPREAD = (arg(("B", 1), low=-3.0, high=3.0), arg((4,)))
_NOTHING = (arg((0, 3)), arg((3,)))
_APART = (arg((2, 3)), arg((2, 4)))
_SHARES = (arg(("B", 4), low=0.05, high=0.95), arg(("B", 4), low=0.05, high=0.95))


def _positive(name: str, what: str, value: Any, zero: bool = False) -> float:
    """Give a finite number above 0, or `ArgumentError`; with `zero`, 0 is allowed."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < 0 or (value == 0 and not zero):
        raise ArgumentError(
            f"{name}: {what} must be a number {'>=' if zero else '>'} 0, got {value!s:.60}.",
            fix=f"{what}=1.0",
        )
    return float(value)


@composite(
    samples=[
        sample(lambda x, y: F.mse_loss(x, y), *_PAIR),
        sample(lambda x, y: F.mse_loss(x, y), *_SPREAD, label="broadcast"),
        sample(lambda x, y: F.mse_loss(x, y), *_NOTHING, label="none"),
    ],
    bad=[bad(lambda x, y: F.mse_loss(x, y), *_APART, match="mse_loss: .*cannot broadcast")],
)
def mse_loss(x: Any, target: Any) -> Value:
    """Give (x - target)^2, not averaged. Raises `ShapeError` when the shapes do not broadcast.

    >>> mse_loss([1.0, 4.0], [1.0, 2.0]).eval().tolist()
    [0.0, 4.0]
    """
    first, second = common("mse_loss", x, target, floating=True)
    return cast_to(F.square(wide(first) - wide(second)), first.dtype)


@composite(
    samples=[
        sample(lambda x, y: F.l1_loss(x, y), *_PAIR),
        sample(lambda x, y: F.l1_loss(x, y), *_SPREAD, label="broadcast"),
    ],
    bad=[bad(lambda x, y: F.l1_loss(x, y), *_APART, match="l1_loss: .*cannot broadcast")],
)
def l1_loss(x: Any, target: Any) -> Value:
    """Give |x - target|, not averaged; the gradient is 0 where both are equal.

    Raises `ShapeError` when the shapes do not broadcast.
    """
    first, second = common("l1_loss", x, target, floating=True)
    return cast_to(F.abs(wide(first) - wide(second)), first.dtype)


@composite(
    samples=[
        sample(lambda x, y: F.huber_loss(x, y), *_PAIR),
        sample(lambda x, y: F.huber_loss(x, y, delta=2.5), *_SPREAD, label="delta"),
    ],
    bad=[
        bad(lambda x, y: F.huber_loss(x, y), *_APART, match="huber_loss: .*cannot broadcast"),
        bad(lambda x, y: F.huber_loss(x, y, 0), *_PAIR, error=ArgumentError, match="delta must be"),
    ],
)
def huber_loss(x: Any, target: Any, delta: float = 1.0) -> Value:
    """Give e^2 / 2 where |e| <= delta and delta (|e| - delta / 2) elsewhere, with e = x - target.

    Raises `ShapeError`, or `ArgumentError` unless delta > 0.
    Source: Huber, "Robust estimation of a location parameter" (1964).
    """
    end = _positive("huber_loss", "delta", delta)
    first, second = common("huber_loss", x, target, floating=True)
    away = wide(first) - wide(second)
    size = F.abs(away)
    inner, outer = 0.5 * F.square(away), end * (size - 0.5 * end)
    return cast_to(F.where(F.less_equal(size, end), inner, outer), first.dtype)


@composite(
    samples=[
        sample(lambda x, y: F.smooth_l1_loss(x, y), *_PAIR),
        sample(lambda x, y: F.smooth_l1_loss(x, y, beta=2.5), *_SPREAD, label="beta"),
        sample(lambda x, y: F.smooth_l1_loss(x, y, beta=0), *_PAIR, label="sharp"),
    ],
    bad=[
        bad(lambda x, y: F.smooth_l1_loss(x, y), *_APART, match="cannot broadcast"),
        bad(
            lambda x, y: F.smooth_l1_loss(x, y, -1), *_PAIR,
            error=ArgumentError, match="beta must be a number >= 0",
        ),
    ],
)  # fmt: skip
def smooth_l1_loss(x: Any, target: Any, beta: float = 1.0) -> Value:
    """Give e^2 / (2 beta) where |e| < beta and |e| - beta / 2 elsewhere, with e = x - target.

    With beta = 0 it is |e|. Raises `ShapeError`, or `ArgumentError` unless beta >= 0.
    Source: Girshick, "Fast R-CNN" (2015), equation 3.
    """
    end = _positive("smooth_l1_loss", "beta", beta, zero=True)
    if not end:
        return F.l1_loss(x, target)
    first, second = common("smooth_l1_loss", x, target, floating=True)
    away = wide(first) - wide(second)
    size = F.abs(away)
    inner = F.square(away) * (0.5 / end)
    return cast_to(F.where(F.less(size, end), inner, size - 0.5 * end), first.dtype)


@composite(
    samples=[
        sample(lambda x, y: F.hinge_loss(x, y), *_PAIR),
        sample(
            lambda x, y: F.hinge_loss(x, y, margin=0.5), arg(("B", 3)),
            arg((3,), "int32", values=(1, -1, 1)), label="labels",
        ),
    ],
    bad=[bad(lambda x, y: F.hinge_loss(x, y), *_APART, match="hinge_loss: .*cannot broadcast")],
)  # fmt: skip
def hinge_loss(x: Any, target: Any, margin: float = 1.0) -> Value:
    """Give max(0, margin - target * x) for targets of 1 and -1.

    Raises `ShapeError` when the shapes do not broadcast.

    >>> hinge_loss([2.0, 2.0], [1, -1]).eval().tolist()
    [0.0, 3.0]
    """
    first, second = common("hinge_loss", x, target, floating=True)
    return cast_to(F.relu(margin - wide(second) * wide(first)), first.dtype)


@composite(
    samples=[
        sample(lambda x, y: F.squared_hinge_loss(x, y), *_PAIR),
        sample(lambda x, y: F.squared_hinge_loss(x, y, margin=0.5), *_SPREAD, label="margin"),
    ],
    bad=[bad(lambda x, y: F.squared_hinge_loss(x, y), *_APART, match="cannot broadcast")],
)
def squared_hinge_loss(x: Any, target: Any, margin: float = 1.0) -> Value:
    """Give max(0, margin - target * x)^2 for targets of 1 and -1; raises as `hinge_loss` does."""
    first, second = common("squared_hinge_loss", x, target, floating=True)
    return cast_to(F.square(F.relu(margin - wide(second) * wide(first))), first.dtype)


@composite(
    samples=[
        sample(lambda x, y: F.binary_cross_entropy(x, y), *_SHARES),
        sample(
            lambda x, y: F.binary_cross_entropy(x, y),
            arg((4,), values=(0.0, 1.0, 0.0, 1.0)), arg((4,), values=(0.0, 1.0, 1.0, 0.5)),
            label="ends", gradient=(),
        ),
        sample(
            lambda x, y: F.binary_cross_entropy(x, y), arg(("B", 3), low=0.1, high=0.9),
            arg((3,), "bool"), label="labels",
        ),
    ],
    bad=[bad(lambda x, y: F.binary_cross_entropy(x, y), *_APART, match="cannot broadcast")],
)  # fmt: skip
def binary_cross_entropy(x: Any, target: Any) -> Value:
    """Give -y log(x) - (1 - y) log(1 - x) for probabilities x; logarithms are limited to -100.

    `binary_cross_entropy_with_logits` is more exact where x is a sigmoid. Raises `ShapeError`.
    """
    first, second = common("binary_cross_entropy", x, target, floating=True)
    share, goal = wide(first), wide(second)
    yes, no = F.maximum(F.log(share), _LOWEST_LOG), F.maximum(F.log1p(-share), _LOWEST_LOG)
    return cast_to(-(goal * yes + (1 - goal) * no), first.dtype)


@composite(
    samples=[
        sample(lambda x, y: F.kl_div(x, y), arg(("B", 4)), _SHARES[1]),
        sample(lambda x, y: F.kl_div(x, y, log_target=True), *_SPREAD, label="logarithms"),
        sample(
            lambda x, y: F.kl_div(x, y), arg((3,)), arg((3,), values=(0.0, 1.0, 0.0)),
            label="zeros", gradient=(0,),
        ),
    ],
    bad=[bad(lambda x, y: F.kl_div(x, y), *_APART, match="kl_div: .*cannot broadcast")],
)  # fmt: skip
def kl_div(x: Any, target: Any, log_target: bool = False) -> Value:
    """Give target * (log(target) - x) for log-probabilities x; 0 where the target is 0.

    The sum over a row is the Kullback-Leibler divergence of exp(x) from the target. With
    `log_target` the target is given by its logarithm. Raises `ShapeError`.
    """
    first, second = common("kl_div", x, target, floating=True)
    given, goal = wide(first), wide(second)
    found = F.exp(goal) * (goal - given) if log_target else F.xlogy(goal, goal) - goal * given
    return cast_to(found, first.dtype)


@composite(
    samples=[
        sample(lambda x, y: F.poisson_nll_loss(x, y), arg(("B", 4)), arg(("B", 4), low=0.1)),
        sample(
            lambda x, y: F.poisson_nll_loss(x, y, log_input=False, full=True),
            arg(("B", 1), low=0.1), arg((4,), values=(0.0, 1.0, 3.0, 7.0)), label="full",
            gradient=(0,),
        ),
    ],
    bad=[
        bad(lambda x, y: F.poisson_nll_loss(x, y), *_APART, match="cannot broadcast"),
        bad(
            lambda x, y: F.poisson_nll_loss(x, y, epsilon=0), *_PAIR,
            error=ArgumentError, match="epsilon must be",
        ),
    ],
)  # fmt: skip
def poisson_nll_loss(
    x: Any, target: Any, log_input: bool = True, full: bool = False, epsilon: float = 1e-8
) -> Value:
    """Give exp(x) - target * x, or x - target * log(x + epsilon) when the input is no logarithm.

    With `full`, Stirling's approximation of log(target!) is added where the target is above 1.
    Raises `ShapeError`, or `ArgumentError` unless epsilon > 0.
    """
    small = _positive("poisson_nll_loss", "epsilon", epsilon)
    first, second = common("poisson_nll_loss", x, target, floating=True)
    rate, count = wide(first), wide(second)
    loss = F.exp(rate) - count * rate if log_input else rate - count * F.log(rate + small)
    if full:
        above = F.greater(count, 1)
        safe = F.where(above, count, F.ones_like(count))
        stirling = safe * F.log(safe) - safe + 0.5 * F.log((2 * math.pi) * safe)
        loss = loss + F.where(above, stirling, F.zeros_like(stirling))
    return cast_to(loss, first.dtype)


@composite(
    samples=[
        sample(lambda x, y, v: F.gaussian_nll_loss(x, y, v), *_PAIR, arg(("B", 4), low=0.2)),
        sample(
            lambda x, y, v: F.gaussian_nll_loss(x, y, v, full=True, epsilon=0.5), *_SPREAD,
            arg((1,), values=(0.25,)), label="full", gradient=(0, 1),
        ),
    ],
    bad=[
        bad(lambda x, y: F.gaussian_nll_loss(x, y, 1.0), *_APART, match="cannot broadcast"),
        bad(
            lambda x, y: F.gaussian_nll_loss(x, y, 1.0, epsilon=-1), *_PAIR,
            error=ArgumentError, match="epsilon must be",
        ),
    ],
)  # fmt: skip
def gaussian_nll_loss(
    x: Any, target: Any, variance: Any, full: bool = False, epsilon: float = 1e-6
) -> Value:
    """Give (log(v) + (x - target)^2 / v) / 2 with v = max(variance, epsilon).

    With `full`, log(2 pi) / 2 is added. Where the variance is below epsilon its gradient is 0.
    Raises `ShapeError`, or `ArgumentError` unless epsilon > 0.
    """
    small = _positive("gaussian_nll_loss", "epsilon", epsilon)
    operands = common("gaussian_nll_loss", x, target, variance, floating=True)
    mean, goal, spread = (wide(each) for each in operands)
    limited = F.maximum(spread, small)
    loss = 0.5 * (F.log(limited) + F.square(mean - goal) / limited)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return cast_to(loss, operands[0].dtype)
