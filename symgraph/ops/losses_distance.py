"""Similarities and losses of whole vectors: cosine similarity, distances, triplets.

Half precisions compute in float32 and are rounded once; nothing is averaged over the batch.
"""

from __future__ import annotations

import math
from typing import Any

from symgraph.errors import ArgumentError
from symgraph.graph.arguments import normal_axis
from symgraph.graph.leaves import cast_to, common
from symgraph.graph.node import Value
from symgraph.graph.precision import wide
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import arg, bad, sample

_ROWS = arg(("B", 5))
_APART = (arg((2, 3)), arg((2, 4)))


@composite(
    samples=[
        sample(lambda x, y: F.cosine_similarity(x, y), _ROWS, _ROWS),
        sample(
            lambda x, y: F.cosine_similarity(x, y, axis=1), arg((2, 3, "B")), arg((3, 1)),
            label="axis",
        ),
        sample(
            lambda x, y: F.cosine_similarity(x, y), arg((2, 3), values=(0.0,)), arg((3,)),
            label="zero", gradient=(1,),
        ),
    ],
    bad=[
        bad(lambda x, y: F.cosine_similarity(x, y), *_APART, match="cannot broadcast"),
        bad(
            lambda x, y: F.cosine_similarity(x, y, epsilon=0), _ROWS, _ROWS,
            error=ArgumentError, match="epsilon must be",
        ),
        bad(
            lambda x, y: F.cosine_similarity(x, y, axis=2), arg((2, 3)), arg((3,)),
            error=ArgumentError, match="axis 2",
        ),
    ],
)  # fmt: skip
def cosine_similarity(x: Any, y: Any, axis: int = -1, epsilon: float = 1e-8) -> Value:
    """Give x . y / (max(|x|, epsilon) max(|y|, epsilon)) along an axis of both, broadcast.

    Raises `ShapeError`, or `ArgumentError` for a wrong axis or unless epsilon > 0.

    >>> round(float(cosine_similarity([3.0, 4.0], [4.0, 3.0]).eval()), 4)
    0.96
    """
    if not 0 < epsilon < math.inf:
        raise ArgumentError(
            f"cosine_similarity: epsilon must be > 0, got {epsilon}.", fix="epsilon=1e-8"
        )
    first, second = common("cosine_similarity", x, y, floating=True)
    a, b = wide(first), wide(second)
    products = a * b
    along = normal_axis("cosine_similarity", axis, products.ndim)
    lengths = []
    for value in (a, b):
        whole = F.broadcast_to(value, products.shape)
        square = F.sum(F.square(whole), axis=along)
        lengths.append(F.rsqrt(F.maximum(square, epsilon * epsilon)))
    return cast_to(F.sum(products, axis=along) * lengths[0] * lengths[1], first.dtype)


@composite(
    samples=[
        sample(lambda x, y: F.pairwise_distance(x, y), _ROWS, _ROWS),
        sample(lambda x, y: F.pairwise_distance(x, y, p=1), _ROWS, arg((5,)), label="p1"),
        sample(
            lambda x, y: F.pairwise_distance(x, y, p=3.5, keepdims=True), arg((17, 2)),
            arg((17, 2)), label="p3",
        ),
    ],
    bad=[
        bad(lambda x, y: F.pairwise_distance(x, y), *_APART, match="cannot broadcast"),
        bad(
            lambda x, y: F.pairwise_distance(x, y, p=0), _ROWS, _ROWS,
            error=ArgumentError, match="p must be",
        ),
    ],
)  # fmt: skip
def pairwise_distance(
    x: Any, y: Any, p: float = 2.0, epsilon: float = 1e-6, *, keepdims: bool = False
) -> Value:
    """Give (sum |x - y + epsilon|^p)^(1/p) over the last axis.

    epsilon keeps the gradient finite where x and y are equal. Raises `ShapeError`, or
    `ArgumentError` unless p > 0 is finite.
    """
    if not 0 < p < math.inf:
        raise ArgumentError(f"pairwise_distance: p must be > 0 and finite, got {p}.", fix="p=2")
    first, second = common("pairwise_distance", x, y, floating=True)
    away = F.abs(wide(first) - wide(second) + epsilon)
    if p == 1:
        found = F.sum(away, axis=-1, keepdims=keepdims)
    elif p == 2:
        found = F.sqrt(F.sum(F.square(away), axis=-1, keepdims=keepdims))
    else:
        found = F.pow(F.sum(F.pow(away, p), axis=-1, keepdims=keepdims), 1 / p)
    return cast_to(found, first.dtype)


@composite(
    samples=[
        sample(lambda a, p, n: F.triplet_margin_loss(a, p, n), _ROWS, _ROWS, _ROWS),
        sample(
            lambda a, p, n: F.triplet_margin_loss(a, p, n, margin=3.0, p=1, swap=True),
            arg((17, 2)), arg((17, 2)), arg((2,)), label="swap",
        ),
    ],
    bad=[
        bad(
            lambda a, p, n: F.triplet_margin_loss(a, p, n), arg((2, 3)), arg((2, 3)), arg((2, 4)),
            match="cannot broadcast",
        ),
    ],
)  # fmt: skip
def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    epsilon: float = 1e-6,
    swap: bool = False,
) -> Value:
    """Give max(d(anchor, positive) - d(anchor, negative) + margin, 0) for each row.

    d is `pairwise_distance`; with `swap`, the smaller of d(anchor, negative) and
    d(positive, negative) counts. Raises as `pairwise_distance` does.
    Source: Schroff et al., "FaceNet" (2015), equation 3.
    """
    operands = common("triplet_margin_loss", anchor, positive, negative, floating=True)
    a, b, c = (wide(each) for each in operands)
    near = F.pairwise_distance(a, b, p, epsilon)
    far = F.pairwise_distance(a, c, p, epsilon)
    if swap:
        far = F.minimum(far, F.pairwise_distance(b, c, p, epsilon))
    return cast_to(F.relu(near - far + margin), operands[0].dtype)
