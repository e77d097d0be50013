"""Oracles of attention, embeddings and normalisation of groups: loops over rows and channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def attention(causal: bool = False, scale: float | None = None) -> Callable[..., Array]:
    def oracle(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
        lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        q, k, v = (np.broadcast_to(each, (*lead, *each.shape[-2:])) for each in (q, k, v))
        seen = np.broadcast_to(True if mask is None else mask, (*lead, q.shape[-2], k.shape[-2]))
        factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        out = np.zeros((*lead, q.shape[-2], v.shape[-1]))
        for place in np.ndindex(*out.shape[:-1]):
            batch, i = place[:-1], place[-1]
            weights = []
            for j in range(k.shape[-2]):
                here = seen[(*place, j)]
                counts = (j <= i or not causal) and (here.dtype != bool or here)
                score = factor * float(q[place] @ k[(*batch, j)])
                bias = 0.0 if here.dtype == bool else float(here)
                weights.append(math.exp(score + bias) if counts else 0.0)
            total = math.fsum(weights)
            for j, weight in enumerate(weights):
                if total:
                    out[place] += weight / total * v[(*batch, j)]
        return out

    return oracle


def embedding(indices: Array, weight: Array) -> Array:
    found = np.zeros((*indices.shape, weight.shape[1]))
    for place in np.ndindex(*indices.shape):
        found[place] = weight[indices[place]]
    return found


def group_norm(groups: int, epsilon: float = 1e-5, shift_only: bool = False) -> Any:
    def oracle(x: Array, *parameters: Array) -> Array:
        y = np.zeros_like(x)
        count = groups or x.shape[1]
        width = x.shape[1] // count
        for n in range(len(x)):
            for group in range(count):
                part = x[n, group * width : (group + 1) * width]
                normal = (part - part.mean()) / math.sqrt(part.var() + epsilon)
                for c in range(width):
                    channel = group * width + c
                    given = [each[channel] for each in parameters]
                    scale, shift = ([1.0, *given] if shift_only else [*given, 1.0, 0.0])[:2]
                    if not parameters:
                        scale, shift = 1.0, 0.0
                    y[n, channel] = normal[c] * scale + shift
        return y

    return oracle


# fmt: off
ORACLES: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention":         attention(),
    "scaled_dot_product_attention:causal":  attention(True, 0.3),
    "scaled_dot_product_attention:mask":    attention(),
    "scaled_dot_product_attention:bias":    attention(True),
    "scaled_dot_product_attention:no_keys": attention(),
    "embedding":           embedding,
    "group_norm":          group_norm(2),
    "group_norm:plain":    group_norm(1, 0.1),
    "group_norm:shift":    group_norm(4, shift_only=True),
    "group_norm:none":     group_norm(3),
    "instance_norm":       group_norm(0),
    "instance_norm:plain": group_norm(0, 0.1),
}
# fmt: on
