"""Normalisation layers."""

from __future__ import annotations

from typing import Any

from symgraph.dims import dim
from symgraph.errors import ArgumentError
from symgraph.graph.arguments import counts
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.types import Shape
from symgraph.nn import init
from symgraph.nn.module import Module


class LocalResponseNorm(Module):
    """y = x / (k + a * sum of x^2 over `size` neighbouring channels)^beta.

    `form="pylearn2"` takes a = alpha (as published for AlexNet), `form="caffe"` a = alpha / size.
    """

    def __init__(
        self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0,
        *, form: str = "pylearn2",
    ) -> None:  # fmt: skip
        self.options = {"size": size, "alpha": alpha, "beta": beta, "k": k, "form": form}

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, H, W) -> the same shape."""
        return F.local_response_norm(x, **self.options)


class BatchNorm(Module):
    """y = scale (x - mean) / sqrt(var + epsilon) + shift for each channel (axis 1).

    Training uses the batch's mean and variance and moves the running ones towards them by
    `momentum` after each call (the running variance is the unbiased one); otherwise the running
    ones are used.
    """

    def __init__(self, channels: int, *, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        (channels,) = counts("BatchNorm", channels=channels)
        if not 0 < momentum <= 1:
            raise ArgumentError(f"BatchNorm: momentum must be in (0, 1], got {momentum}.")
        self.momentum, self.epsilon = momentum, epsilon
        self.scale = self.parameter("scale", (channels,), init.constant(1.0))
        self.shift = self.parameter("shift", (channels,), init.constant(0.0))
        self.mean = self.buffer("mean", (channels,), init.constant(0.0))
        self.var = self.buffer("var", (channels,), init.constant(1.0))

    def input_shape(self) -> Shape:
        """(B, C)."""
        return dim("B"), self.scale.shape[0]

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, ...) -> the same shape."""
        over = tuple(axis for axis in range(x.ndim) if axis != 1)
        if not train:
            return F.batch_norm_inference(
                x, self.scale, self.shift, self.mean, self.var, epsilon=self.epsilon
            )
        y, mean, var = F.batch_norm(x, self.scale, self.shift, axis=over, epsilon=self.epsilon)
        count = F.cast(F.divide(x.size, self.scale.shape[0]), x.dtype)
        unbiased = F.stop_gradient(var) * (count / F.maximum(count - 1, 1))
        keep = 1 - self.momentum
        return F.with_updates(
            y,
            {
                self.mean: keep * self.mean + self.momentum * F.stop_gradient(mean),
                self.var: keep * self.var + self.momentum * unbiased,
            },
        )


class LayerNorm(Module):
    """y = scale (x - mean) / sqrt(var + epsilon) + shift over the last axis."""

    def __init__(self, features: int, *, epsilon: float = 1e-5) -> None:
        (features,), self.epsilon = counts("LayerNorm", features=features), epsilon
        self.scale = self.parameter("scale", (features,), init.constant(1.0))
        self.shift = self.parameter("shift", (features,), init.constant(0.0))

    def input_shape(self) -> Shape:
        """(B, features)."""
        return dim("B"), self.scale.shape[0]

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (..., features) -> the same shape."""
        return F.layer_norm(x, self.scale, self.shift, axis=-1, epsilon=self.epsilon)


class RMSNorm(Module):
    """y = scale x / sqrt(mean(x^2) + epsilon) over the last axis."""

    def __init__(self, features: int, *, epsilon: float = 1e-6) -> None:
        (features,), self.epsilon = counts("RMSNorm", features=features), epsilon
        self.scale = self.parameter("scale", (features,), init.constant(1.0))

    def input_shape(self) -> Shape:
        """(B, features)."""
        return dim("B"), self.scale.shape[0]

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (..., features) -> the same shape."""
        return F.rms_norm(x, self.scale, axis=-1, epsilon=self.epsilon)


class GroupNorm(Module):
    """y = scale (x - mean) / sqrt(var + epsilon) + shift over groups of channels (axis 1)."""

    def __init__(self, groups: int, channels: int, *, epsilon: float = 1e-5) -> None:
        groups, channels = counts("GroupNorm", groups=groups, channels=channels)
        if channels % groups:
            raise ArgumentError(
                f"GroupNorm: groups must divide the channels, got {groups} and {channels}."
            )
        self.groups, self.epsilon = groups, epsilon
        self.scale = self.parameter("scale", (channels,), init.constant(1.0))
        self.shift = self.parameter("shift", (channels,), init.constant(0.0))

    def input_shape(self) -> Shape:
        """(B, C)."""
        return dim("B"), self.scale.shape[0]

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, ...) -> the same shape."""
        return F.group_norm(x, self.groups, self.scale, self.shift, epsilon=self.epsilon)


class InstanceNorm(Module):
    """y = (x - mean) / sqrt(var + epsilon) for each channel of each example.

    With `affine` it is scaled and shifted by trained numbers for each channel.
    """

    def __init__(self, channels: int, *, affine: bool = False, epsilon: float = 1e-5) -> None:
        self.channels, self.epsilon = channels, epsilon
        self.scale = self.parameter("scale", (channels,), init.constant(1.0)) if affine else None
        self.shift = self.parameter("shift", (channels,), init.constant(0.0)) if affine else None

    def input_shape(self) -> Shape:
        """(B, C, L)."""
        return dim("B"), self.channels, dim("L")

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, ...) -> the same shape."""
        return F.instance_norm(x, self.scale, self.shift, epsilon=self.epsilon)
