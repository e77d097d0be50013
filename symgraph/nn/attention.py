"""Attention and transformer blocks."""

from __future__ import annotations

from typing import Any

from symgraph.dims import dim
from symgraph.errors import ArgumentError
from symgraph.graph.arguments import counts
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.types import Shape
from symgraph.nn.activation import Activation, Dropout
from symgraph.nn.dense import Dense
from symgraph.nn.module import Module, Sequential
from symgraph.nn.norm import LayerNorm


class MultiHeadAttention(Module):
    """Several attentions side by side, each on a share of the features, mixed by a last matrix.

    Sequences are (B, T, features). Self-attention unless `memory`, another sequence, is given:
    queries are of x, keys and values of the memory. One matrix (features, 3 features) makes
    queries, keys and values. `mask`, which is broadcast to (B, heads, T, S), is true where a query
    may see a key, or is added to the scores; `causal` hides keys that come after the query.
    Vaswani et al., "Attention is all you need" (2017), section 3.2.2.

    Raises `ArgumentError` unless heads divide features.
    """

    def __init__(
        self, features: int, heads: int, *, dropout: float = 0.0, bias: bool = True
    ) -> None:
        features, heads = counts("MultiHeadAttention", features=features, heads=heads)
        if features % heads:
            raise ArgumentError(
                f"MultiHeadAttention: heads must divide features: {features} features, "
                f"{heads} heads.",
                fix="choose features as a multiple of heads",
            )
        options: dict[str, Any] = {} if bias else {"bias": None}
        self.features, self.heads = features, heads
        self.rate = Dropout(dropout).rate  # checked there
        self.inputs = Dense(features, 3 * features, **options)
        self.outputs = Dense(features, features, **options)

    def input_shape(self) -> Shape:
        """(B, T, features)."""
        return dim("B"), dim("T"), self.features

    def forward(
        self,
        x: Any,
        *,
        train: bool = False,
        memory: Any = None,
        mask: Any = None,
        causal: bool = False,
    ) -> Value:
        """x: (B, T, features), memory: (B, S, features) -> (B, T, features)."""
        value = as_value(x)
        if memory is None:
            joint = self.inputs(value)
            query, key, content = (self._part(joint, number) for number in range(3))
        else:
            seen = self._projected(as_value(memory), 1, 3)
            query = self._part(self._projected(value, 0, 1), 0)
            key, content = self._part(seen, 0), self._part(seen, 1)
        shown = None if mask is None else as_value(mask)
        mixed = F.scaled_dot_product_attention(
            query, key, content, shown, causal, dropout=self.rate if train else 0.0
        )
        joined = F.reshape(F.permute_dims(mixed, (0, 2, 1, 3)), (*value.shape[:2], self.features))
        return self.outputs(joined)

    def _projected(self, x: Value, first: int, last: int) -> Value:
        """Multiply by some of the three matrices that stand beside each other."""
        columns = slice(first * self.features, last * self.features)
        product: Value = x @ self.inputs.weight[:, columns]
        return product if self.inputs.bias is None else product + self.inputs.bias[columns]

    def _part(self, joint: Value, number: int) -> Value:
        """(B, T, n features) -> (B, heads, T, features / heads), of the number-th part."""
        part = joint[:, :, number * self.features : (number + 1) * self.features]
        wide = self.features // self.heads
        cut = F.reshape(part, (*part.shape[:2], self.heads, wide))
        found: Value = F.permute_dims(cut, (0, 2, 1, 3))
        return found


class TransformerBlock(Module):
    """x + attention(norm(x)), and that + mlp(norm(that)): norms before, which trains stably.

    The MLP has one hidden layer of `hidden` (four times `features` unless given) with `activation`.
    Xiong et al., "On layer normalization in the transformer architecture" (2020).
    """

    def __init__(
        self,
        features: int,
        heads: int,
        hidden: int | None = None,
        *,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation: str = "gelu",
        epsilon: float = 1e-5,
    ) -> None:
        wide = 4 * features if hidden is None else hidden
        self.norm = LayerNorm(features, epsilon=epsilon)
        self.attention = MultiHeadAttention(features, heads, dropout=attention_dropout)
        self.drop = Dropout(dropout)
        self.mlp_norm = LayerNorm(features, epsilon=epsilon)
        self.mlp = Sequential(
            Dense(features, wide), Activation(activation), Dropout(dropout),
            Dense(wide, features), Dropout(dropout),
        )  # fmt: skip

    def input_shape(self) -> Shape | None:
        """(B, T, features)."""
        return self.attention.input_shape()

    def forward(
        self, x: Any, *, train: bool = False, mask: Any = None, causal: bool = False
    ) -> Value:
        """x: (B, T, features) -> the same shape."""
        seen = self.attention(self.norm(x), train=train, mask=mask, causal=causal)
        value = x + self.drop(seen, train=train)
        changed: Value = value + self.mlp(self.mlp_norm(value), train=train)
        return changed
