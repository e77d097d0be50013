"""Layers whose weights are products of smaller ones: what low-rank decomposition leaves."""

from __future__ import annotations

from typing import Any

from symgraph.errors import ArgumentError
from symgraph.graph.arguments import plain_int
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.types import Shape
from symgraph.nn import init
from symgraph.nn.conv import Conv2d
from symgraph.nn.dense import Dense
from symgraph.nn.module import Module


class LowRankDense(Module):
    """y = (x U) V + b, with U of shape (inputs, rank) and V of (rank, outputs).

    `weight` draws both factors, `bias` what is added at the end.

    Raises `ArgumentError` for a rank outside 1 .. min(inputs, outputs).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rank: int,
        *,
        weight: init.Initialiser | None = None,
        bias: init.Initialiser | None = init.ZEROS,
    ) -> None:
        most = {f"min of {inputs} inputs and {outputs} outputs": min(inputs, outputs)}
        (inner,) = _checked("LowRankDense", (rank,), most)
        self.first = Dense(inputs, inner, weight=weight, bias=None)
        self.last = Dense(inner, outputs, weight=weight, bias=bias)

    @property
    def ranks(self) -> tuple[int]:
        """The size between the factors."""
        return (int(self.first.weight.shape[1]),)

    @property
    def weight(self) -> Value:
        """The dense matrix that the factors stand for: (inputs, outputs)."""
        product: Value = self.first.weight @ self.last.weight
        return product

    @property
    def bias(self) -> Value | None:
        """What is added to the product."""
        return self.last.bias

    def input_shape(self) -> Shape:
        """(B, inputs)."""
        return self.first.input_shape()

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (..., inputs) -> (..., outputs)."""
        return self.last(self.first(x))


class LowRankConv2d(Module):
    """A convolution by fewer channels: 1 x 1 to `ranks[0]`, kernel to `ranks[1]`, 1 x 1 to outputs.

    Tucker's form of filters along their channels. One of 1 x 1 has one rank and two factors. All
    but the last are without a bias; stride, padding and dilation are those of the kernel.
    Raises `ArgumentError` for ranks outside 1 .. the channels on their side.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        ranks: int | tuple[int, ...],
        *,
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        weight: init.Initialiser | None = None,
        bias: init.Initialiser | None = init.ZEROS,
    ) -> None:
        window = (kernel, kernel) if isinstance(kernel, int) else kernel
        given = (ranks,) if isinstance(ranks, int) else tuple(ranks)
        inner_options: dict[str, Any] = {"weight": weight, "bias": None}
        moves = {"stride": stride, "padding": padding, "dilation": dilation, **inner_options}
        if window == (1, 1):
            most = {f"min of {inputs} inputs and {outputs} outputs": min(inputs, outputs)}
            (inner,) = _checked("LowRankConv2d", given, most)
            self.first = Conv2d(inputs, inner, 1, **moves)
            self.core: Conv2d | None = None
        else:
            most = {f"{inputs} inputs": inputs, f"{outputs} outputs": outputs}
            before, inner = _checked("LowRankConv2d", given, most)
            self.first = Conv2d(inputs, before, 1, **inner_options)
            self.core = Conv2d(before, inner, window, **moves)
        self.last = Conv2d(inner, outputs, 1, weight=weight, bias=bias)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The channels between the factors."""
        convs = [self.first] if self.core is None else [self.first, self.core]
        return tuple(int(conv.weight.shape[0]) for conv in convs)

    @property
    def kernel(self) -> Conv2d:
        """The factor that has the stride, the padding and the dilation."""
        return self.first if self.core is None else self.core

    @property
    def weight(self) -> Value:
        """The dense filters that the factors stand for: (outputs, inputs, kh, kw)."""
        first, last = self.first.weight[:, :, 0, 0], self.last.weight[:, :, 0, 0]
        if self.core is None:
            return F.expand_dims(last @ first, (2, 3))
        product: Value = F.einsum("ob,baij,ac->ocij", last, self.core.weight, first)
        return product

    @property
    def bias(self) -> Value | None:
        """What is added to the last factor's result."""
        return self.last.bias

    def input_shape(self) -> Shape:
        """(B, inputs, H, W)."""
        return self.first.input_shape()

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, inputs, H, W) -> (B, outputs, H', W')."""
        value = self.first(x)
        return self.last(value if self.core is None else self.core(value))


def _checked(name: str, ranks: tuple[Any, ...], most: dict[str, int]) -> tuple[int, ...]:
    """Give ranks as plain numbers; raises where one is too small or too large."""
    if len(ranks) != len(most):
        raise ArgumentError(
            f"{name}: {len(most)} rank{'s are' if len(most) > 1 else ' is'} needed, "
            f"got {len(ranks)}: {ranks!r:.60}.",
            fix="(r1, r2) for a kernel, one number for a matrix or a kernel of 1 x 1",
        )
    found = tuple(plain_int(name, "a rank", rank) for rank in ranks)
    for rank, (side, limit) in zip(found, most.items(), strict=True):
        if not 1 <= rank <= limit:
            raise ArgumentError(
                f"{name}: a rank must lie in 1 .. {limit} ({side}), got {rank}.",
                fix="leave the layer dense where its full rank is needed",
            )
    return found
