"""Connectionist temporal classification: the loss of a sequence whose alignment is not known."""

from __future__ import annotations

import math
from typing import Any

from symgraph.errors import ArgumentError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.leaves import as_value, cast_to, common, needs_integer
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.precision import wide
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample

_NAME = "ctc_loss"
_FRAMES = arg(("T", "B", 3), low=-2.0, high=-0.1)
_TARGETS = arg(("B", 2), "int32", low=1, high=3)
_LENGTHS = arg(("B",), "int32", low=3, high=5), arg(("B",), "int32", low=0, high=3)


@composite(
    samples=[
        sample(
            lambda x, t, n, m: F.ctc_loss(x, t, n, m), _FRAMES, _TARGETS, *_LENGTHS,
            sizes={"T": 4},
        ),
        sample(
            lambda x, t, n, m: F.ctc_loss(x, t, n, m, blank=2), _FRAMES,
            arg(("B", 3), "int32", low=0, high=2), arg(("B",), "int64", values=(4,)),
            arg(("B",), "int64", values=(3, 2, 1)), label="blank", gradient=(), sizes={"T": 4},
        ),
        sample(
            lambda x, t, n, m: F.ctc_loss(x, t, n, m, zero_infinity=True),
            arg((2, 2, 3), low=-2.0, high=-0.1), arg((2, 2), "int32", values=(1, 1, 1, 2)),
            arg((2,), "int32", values=(2,)), arg((2,), "int32", values=(2,)), label="impossible",
        ),
    ],
    bad=[
        bad(
            lambda x, t, n: F.ctc_loss(x, t, n, n), arg((4, 3)), arg((2, 2), "int32"),
            arg((2,), "int32"), match="must have 3 axes",
        ),
        bad(
            lambda x, t, n: F.ctc_loss(x, t, n, n), arg((4, 2, 3)), arg((2,), "int32"),
            arg((2,), "int32"), match="must have 2 axes",
        ),
        bad(
            lambda x, t, n: F.ctc_loss(x, t, n, n), arg((0, 2, 3)), arg((2, 2), "int32"),
            arg((2,), "int32"), match="there must be a frame",
        ),
        bad(
            lambda x, t, n: F.ctc_loss(x, t, n, n, blank=3), arg((4, 2, 3)), arg((2, 2), "int32"),
            arg((2,), "int32"), error=ArgumentError, match="blank must be a class",
        ),
        bad(
            lambda x, t, n: F.ctc_loss(x, t, n, n), arg((4, 2, 3)), arg((3, 2), "int32"),
            arg((2,), "int32"), match="3",
        ),
    ],
)  # fmt: skip
def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    zero_infinity: bool = False,
) -> Value:
    """Give -log of the probability of each target, summed over all alignments: (batch,).

    `log_probs` is (frames, batch, classes), logarithms as of `log_softmax`; `targets` (batch, S)
    holds classes other than the blank, of which the first `target_lengths` count, as of the frames
    the first `input_lengths`, at most all. A target that does not fit into its frames costs
    infinity, or 0 with `zero_infinity`, and gives no gradient then. Raises `ShapeError` for other
    shapes or without a frame, `DTypeError` unless targets and lengths are
    integers, `ArgumentError` unless the blank is a class.
    Source: Graves et al., "Connectionist temporal classification" (2006), equations 5 to 8.
    """
    (frames,) = common(_NAME, log_probs, floating=True)
    chosen, *lengths = (
        needs_integer(_NAME, as_value(each)) for each in (targets, input_lengths, target_lengths)
    )
    silence = _checked(frames, chosen, lengths, blank)
    scores = wide(frames)
    batch, longest = chosen.shape
    # blank, label, blank, label, ..., blank
    pairs = F.stack([F.full_like(chosen, silence), chosen], -1)
    labels = F.pad(F.reshape(pairs, (batch, 2 * longest)), ((0, 0), (0, 1)), value=silence)
    heard = F.take_along_axis(scores, F.expand_dims(labels, 0), -1)
    nothing = F.constant(-math.inf, scores.dtype)

    def later(alpha: Value, by: int) -> Value:
        """Move along the labels: -inf comes in at the front."""
        return F.pad(alpha, ((0, 0), (by, 0)), value=-math.inf)[:, : 2 * longest + 1]

    # a label may follow the one before the blank unless they are the same
    before = F.pad(labels, ((0, 0), (2, 0)), value=silence)[:, : 2 * longest + 1]
    skips = F.logical_and(F.not_equal(labels, silence), F.not_equal(labels, before))
    places = F.arange(2 * longest + 1)
    alpha = F.where(F.less(places, 2), heard[0], nothing)

    def step(row: Value, frame: Value, alpha: Value) -> Value:
        stay = F.logaddexp(alpha, later(alpha, 1))
        reached = F.logaddexp(stay, F.where(skips, later(alpha, 2), nothing))
        return F.where(F.expand_dims(F.less(frame, lengths[0]), 1), reached + row, alpha)

    numbers = F.arange(1, frames.shape[0], dtype=lengths[0].dtype)
    alpha, _ = F.foldl(step, [heard[1:], numbers], [alpha], name=_NAME)
    last = 2 * F.expand_dims(lengths[1], 1)
    ends = F.logical_or(F.equal(places, last), F.equal(places, last - 1))
    loss = -F.logsumexp(F.where(ends, alpha, nothing), axis=1)
    if zero_infinity:
        loss = F.where(F.isinf(loss), F.zeros_like(loss), loss)
    return cast_to(loss, frames.dtype)


def _checked(frames: Value, targets: Value, lengths: list[Value], blank: Any) -> int:
    """Give the blank as an int, or raise unless the shapes fit."""
    for value, axes, shape in (
        (frames, 3, "(frames, batch, classes)"), (targets, 2, "(batch, labels)"),
        *((each, 1, "(batch,)") for each in lengths),
    ):  # fmt: skip
        if value.ndim != axes:
            raise ShapeError(
                f"{_NAME}: `{value.label}` must have {axes} axes, it has {value.ndim}.",
                details=operand_lines([value]),
                fix=f"its shape is {shape}",
            )
    if isinstance(frames.shape[0], int) and not frames.shape[0]:
        raise ShapeError(f"{_NAME}: there must be a frame.", details=operand_lines([frames]))
    silence, classes = plain_int(_NAME, "blank", blank), frames.shape[2]
    if silence < 0 or (isinstance(classes, int) and silence >= classes):
        raise ArgumentError(
            f"{_NAME}: blank must be a class, 0 to {classes - 1}, got {silence}.", fix="blank=0"
        )
    return silence
