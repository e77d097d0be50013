"""Attention by scaled scalar products."""

from __future__ import annotations

import math
from typing import Any

from symgraph.dims import equal
from symgraph.errors import DTypeError, ShapeError
from symgraph.graph.dtypes import is_float
from symgraph.graph.leaves import as_value, cast_to, common
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.precision import wide
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample

_Q, _K, _V = arg(("B", 3, 4)), arg(("B", 5, 4)), arg(("B", 5, 2))
_NAME = "scaled_dot_product_attention"


def _attend(**options: Any) -> Any:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options)


@composite(
    samples=[
        sample(_attend(), _Q, _K, _V),
        sample(
            _attend(is_causal=True, scale=0.3), arg((2, 1, "W", 2)), arg((2, "W", 2)),
            arg((2, "W", 3)), label="causal",
        ),
        sample(
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask), _Q, _K, _V,
            arg((3, 5), "bool", values=(1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1)),
            label="mask",
        ),
        sample(
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask, is_causal=True),
            _Q, _K, _V, arg((1, 3, 5)), label="bias",
        ),
        sample(_attend(), arg((3, 4)), arg((0, 4)), arg((0, 2)), label="no keys"),
    ],
    bad=[
        bad(_attend(), arg((2, 3)), arg((2, 4)), arg((2, 3)), match="must have as many features"),
        bad(_attend(), arg((2, 3)), arg((4, 3)), arg((5, 3)), match="one value for each key"),
        bad(_attend(), arg((3,)), arg((4, 3)), arg((4, 3)), match="at least 2 axes"),
        bad(
            lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), arg((2, 3)),
            arg((4, 3)), arg((4, 3)), arg((2, 5), "bool"), match="cannot broadcast",
        ),
        bad(
            lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), arg((2, 3)),
            arg((4, 3)), arg((4, 3)), arg((2, 4), "int32"), error=DTypeError,
            match="must hold bools or floats",
        ),
    ],
)  # fmt: skip
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Value:
    """Give softmax(query key^T scale + mask) value, the softmax over the keys.

    `query` is (..., L, E), `key` (..., S, E), `value` (..., S, V), the result (..., L, V); leading
    axes broadcast. `scale` is 1 / sqrt(E) unless given. A mask of bools, broadcast to (..., L, S),
    is true where a key counts; one of floats is added. With `is_causal`, query i sees keys up to i.
    With `dropout` that share of the weights, drawn anew in each call, is 0, and the others grow.
    A query that sees no key gives zeros (PyTorch gives NaN), and no gradient. Half precisions
    compute in float32 up to the result. Raises `ShapeError` or `DTypeError` for other operands.
    Source: Vaswani et al., "Attention is all you need" (2017), equation 1.
    """
    operands = common(_NAME, query, key, value, floating=True)
    _check(*operands)
    q, k, v = (wide(each) for each in operands)
    features = operands[0].shape[-1]
    if scale is not None:
        q = q * float(scale)
    elif isinstance(features, int):
        q = q * (1 / math.sqrt(features) if features else 1.0)
    else:
        q = q * F.rsqrt(F.size_of(features, q.dtype))
    scores = F.matmul(q, F.matrix_transpose(k))
    nothing = F.constant(-math.inf, scores.dtype)
    if is_causal:
        rows, columns = F.arange(scores.shape[-2]), F.arange(scores.shape[-1])
        scores = F.where(F.greater_equal(F.expand_dims(rows, 1), columns), scores, nothing)
    if mask is None:
        shares = F.dropout(F.softmax(scores), dropout, train=dropout > 0)
        return cast_to(F.matmul(shares, v), operands[0].dtype)
    given = as_value(mask)
    if given.dtype == "bool":
        scores = F.where(given, scores, nothing)
    elif is_float(given.dtype):
        scores = scores + cast_to(given, scores.dtype)
    else:
        raise DTypeError(
            f"{_NAME}: `{given.label}` must hold bools or floats, not {given.dtype}.",
            details=operand_lines([given]),
            fix="mask != 0",
        )
    # a softmax of nothing but -inf is NaN: such rows take part as zeros, and give zeros
    alive = F.any(F.not_equal(scores, nothing), axis=-1, keepdims=True)
    zeros = F.zeros_like(scores)
    shares = F.where(alive, F.softmax(F.where(alive, scores, zeros)), zeros)
    shares = F.dropout(shares, dropout, train=dropout > 0)
    return cast_to(F.matmul(shares, v), operands[0].dtype)


def _check(query: Value, key: Value, value: Value) -> None:
    """Raise `ShapeError` unless the last two axes fit."""
    details = operand_lines([query, key, value])
    for each in (query, key, value):
        if each.ndim < 2:
            raise ShapeError(
                f"{_NAME}: `{each.label}` must have at least 2 axes, it has {each.ndim}.",
                details=details,
                fix="axes are (..., places, features)",
            )
    if equal(query.shape[-1], key.shape[-1]) is False:
        raise ShapeError(
            f"{_NAME}: `{query.label}` and `{key.label}` must have as many features: "
            f"{query.shape[-1]} != {key.shape[-1]}.",
            details=details,
        )
    if equal(key.shape[-2], value.shape[-2]) is False:
        raise ShapeError(
            f"{_NAME}: there must be one value for each key: {value.shape[-2]} != {key.shape[-2]}.",
            details=details,
        )
