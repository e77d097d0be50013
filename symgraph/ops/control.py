"""Operations that behave differently while training: dropout.

Updates of shared variables are attached to values by `with_updates`, in graph/leaves.py.
"""

from __future__ import annotations

from typing import Any

from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError
from symgraph.graph.arguments import share
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.precision import wide
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample

ROWS = arg(("B", 5))


@composite(
    samples=[
        sample(lambda x: F.dropout(x, 0.4, stream=F.stream(7)), ROWS, label="train"),
        sample(
            lambda x: F.dropout(x, 0.25, inverted=False, stream=F.stream(7)),
            ROWS,
            label="published",
        ),
        sample(
            lambda x: F.dropout(x, 0.25, False, inverted=False, stream=F.stream(7)) * 1,
            ROWS,
            label="published test",
        ),
        sample(
            lambda x, flag: F.dropout(x, 0.4, flag, inverted=False, stream=F.stream(7)),
            ROWS,
            arg((), "bool", values=(False,)),
            label="switched off",
        ),
        sample(
            lambda x, flag: F.dropout(x, 0.4, flag, stream=F.stream(7)),
            ROWS,
            arg((), "bool", values=(True,)),
            label="switched on",
        ),
    ],
    bad=[
        bad(lambda x: F.dropout(x, 1.0), arg((2, 3)), error=ArgumentError, match=r"\[0, 1\)"),
        bad(
            lambda x, flag: F.dropout(x, 0.5, flag), arg((2, 3)), arg((2,), "bool"),
            error=ArgumentTypeError, match="one bool",
        ),
        bad(lambda x: F.dropout(x), arg((2, 3), "int32"), error=DTypeError, match="floats"),
    ],
)  # fmt: skip
def dropout(
    x: Any,
    rate: float = 0.5,
    train: bool | Value = True,
    *,
    inverted: bool = True,
    stream: Any = None,
) -> Value:
    """Zero each element with probability `rate` while training, independently.

    Inverted (default): survivors are divided by 1 - rate while training, and nothing happens
    otherwise. Not inverted, as published: survivors stay, and otherwise all are multiplied by
    1 - rate. `train` may be a symbolic bool, so that one function serves both. The mask of a row
    (first axis) depends on its number in the whole batch, see `Stream.offset`.
    Raises `ArgumentError` unless 0 <= rate < 1. Srivastava et al., JMLR 15, 2014.
    """
    value, keep = _checked(x, rate)
    switch = train if isinstance(train, Value) else bool(train)
    if isinstance(switch, Value) and (switch.ndim or switch.dtype != "bool"):
        raise ArgumentTypeError(
            f"dropout: train must be one bool, got {switch.type}.",
            details=operand_lines([switch]),
            fix='train=sg.scalar("train", "bool")',
        )
    if keep == 1.0:
        return value
    rest = value if inverted else value * keep
    if switch is False:
        return rest
    mask = F.bernoulli(tuple(value.shape), keep, by_row=value.ndim > 0, stream=stream)
    grown = cast_to(wide(value) * (1.0 / keep), value.dtype) if inverted else value
    active = F.where(mask, grown, F.zeros_like(grown))
    return active if switch is True else F.where(switch, active, rest)


def _checked(x: Any, rate: Any) -> tuple[Value, float]:
    (value,) = common("dropout", x)
    if not value.dtype.startswith(("float", "bfloat")):
        raise DTypeError(
            f"dropout: takes floats, not {value.dtype}.",
            details=operand_lines([value]),
            fix='x.cast("float32")',
        )
    return value, 1.0 - share("dropout", "rate", rate, operand_lines([value]))
