"""Attention with several heads, and the block of a transformer."""

from __future__ import annotations

from typing import Any

from symgraph.dims import dim
from symgraph.errors import ArgumentError
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.types import Shape
from symgraph.nn import init
from symgraph.nn.activation import Activation, Dropout
from symgraph.nn.dense import Dense
from symgraph.nn.module import Module
from symgraph.nn.norm import LayerNorm


class MultiHeadAttention(Module):
    """Attention of `heads` heads side by side, each with features / heads features.

    Each head attends with parts of query W_q, key W_k and value W_v; what they give is joined and
    multiplied by W_o. A mask of bools, broadcast to (B, heads, L, S), is true where a key counts;
    one of floats is added. Source: Vaswani et al., "Attention is all you need" (2017), 3.2.2.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        key_features: int | None = None,
        value_features: int | None = None,
        bias: bool = True,
    ) -> None:
        if heads < 1 or features % heads:
            raise ArgumentError(
                f"MultiHeadAttention: heads must divide the features, got {heads} and {features}.",
                fix="features=64, heads=8",
            )
        self.features, self.heads = features, heads
        start = init.ZEROS if bias else None
        self.query = Dense(features, features, bias=start)
        self.key = Dense(key_features or features, features, bias=start)
        self.value = Dense(value_features or features, features, bias=start)
        self.out = Dense(features, features, bias=start)

    def input_shape(self) -> Shape:
        """(B, L, features)."""
        return dim("B"), dim("L"), self.features

    def forward(
        self,
        x: Any,
        *,
        train: bool = False,
        key: Any = None,
        value: Any = None,
        mask: Any = None,
        is_causal: bool = False,
    ) -> Value:
        """x: (B, L, features); key, value: (B, S, their features) -> (B, L, features).

        Without a key x attends to itself, without a value the key is the value.
        """
        keys = x if key is None else key
        values = keys if value is None else value
        parts = [
            self._split(layer(each, train=train))
            for layer, each in ((self.query, x), (self.key, keys), (self.value, values))
        ]
        found = F.scaled_dot_product_attention(*parts, mask=mask, is_causal=is_causal)
        joined = F.permute_dims(found, (0, 2, 1, 3))
        shape = (joined.shape[0], joined.shape[1], self.features)
        return self.out(F.reshape(joined, shape), train=train)

    def _split(self, x: Value) -> Value:
        """(B, L, features) -> (B, heads, L, features / heads)."""
        batch, places, _ = x.shape
        apart = F.reshape(x, (batch, places, self.heads, self.features // self.heads))
        return F.permute_dims(apart, (0, 2, 1, 3))


class TransformerBlock(Module):
    """y = x + attention(norm(x)), then y + mlp(norm(y)), the mlp with one hidden layer.

    The norms come first, as in Xiong et al., "On layer normalization in the transformer
    architecture" (2020); dropout follows the attention and the mlp.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        hidden: int | None = None,
        activation: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        self.attention_norm = LayerNorm(features)
        self.attention = MultiHeadAttention(features, heads)
        self.mlp_norm = LayerNorm(features)
        self.widen = Dense(features, hidden or 4 * features)
        self.activation = Activation(activation)
        self.narrow = Dense(hidden or 4 * features, features)
        self.dropout = Dropout(dropout)

    def input_shape(self) -> Shape | None:
        """(B, L, features)."""
        return self.attention.input_shape()

    def forward(
        self, x: Any, *, train: bool = False, mask: Any = None, is_causal: bool = False
    ) -> Value:
        """x: (B, L, features) -> the same shape."""
        normal = self.attention_norm(x, train=train)
        seen = self.attention(normal, train=train, mask=mask, is_causal=is_causal)
        y = x + self.dropout(seen, train=train)
        inner = self.activation(self.widen(self.mlp_norm(y, train=train), train=train))
        found: Value = y + self.dropout(self.narrow(inner, train=train), train=train)
        return found
