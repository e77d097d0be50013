"""Pooling layers."""

from __future__ import annotations

from typing import Any

from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.nn.module import Module

Window = int | tuple[int, int]


class MaxPool2d(Module):
    """The largest value in each window."""

    def __init__(
        self, kernel: Window, stride: Window | None = None, *, padding: Any = 0,
        ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.ceil_mode = ceil_mode

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, H, W) -> (B, C, H', W')."""
        return F.max_pool2d(
            x, self.kernel, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode
        )


class AvgPool2d(Module):
    """The mean of each window; `count_include_pad` counts padding as zeros."""

    def __init__(
        self, kernel: Window, stride: Window | None = None, *, padding: Any = 0,
        ceil_mode: bool = False, count_include_pad: bool = False,
    ) -> None:  # fmt: skip
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, H, W) -> (B, C, H', W')."""
        return F.avg_pool2d(
            x,
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )


class GlobalAvgPool2d(Module):
    """The mean over each channel's whole map."""

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, H, W) -> (B, C)."""
        return F.mean(x, axis=(2, 3))


class AdaptiveAvgPool2d(Module):
    """The means of as many windows as give maps of a size; None keeps an axis."""

    def __init__(self, size: int | tuple[int | None, int | None]) -> None:
        self.size = size

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, H, W) -> (B, C, *size)."""
        return F.adaptive_avg_pool2d(x, self.size)


class AdaptiveMaxPool2d(Module):
    """The largest values in as many windows as give maps of a size; None keeps an axis."""

    def __init__(self, size: int | tuple[int | None, int | None]) -> None:
        self.size = size

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, H, W) -> (B, C, *size)."""
        return F.adaptive_max_pool2d(x, self.size)


class Upsample(Module):
    """Maps resized to `size` or by `scale_factor`; see `sg.interpolate`."""

    def __init__(
        self, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
        *, align_corners: bool = False,
    ) -> None:  # fmt: skip
        self.size, self.scale_factor = size, scale_factor
        self.mode, self.align_corners = mode, align_corners

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (B, C, ...) -> (B, C, ...)."""
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)
