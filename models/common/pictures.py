"""Pictures of a run: its curves, and what its first layer learned."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.common.metrics import Metrics, read_metrics
from symgraph.errors import ArgumentError, DeviceError
from symgraph.io import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY, _INK = "#1f5fa8", "#d9661f", "#d9d9d9", "#333333"
_DPI = 120


def check_pictures() -> None:
    """Check that pictures can be drawn, before hours of training end in not drawing them.

    Raises:
        DeviceError: matplotlib is not installed.
    """
    _figure(1.0, 1.0)


def plot_curves(
    metrics: Metrics | str | os.PathLike[str], path: str | os.PathLike[str], *, title: str = ""
) -> Path:
    """Draw training loss and validation accuracy over the steps of a run, and write a PNG.

    Reads `loss` of the `train` lines, and `accuracy` and `loss` of the `validation` lines; what was
    not measured is left out.

    Raises:
        ArgumentError: neither was ever measured.
        DeviceError: matplotlib is not installed.
    """
    found = metrics if isinstance(metrics, Metrics) else read_metrics(metrics)
    loss, accuracy = found.series("train", "loss"), found.series("validation", "accuracy")
    panels = [name for name, (steps, _) in (("loss", loss), ("accuracy", accuracy)) if steps]
    if not panels:
        raise ArgumentError(
            f"{found.path} holds neither a training loss nor a validation accuracy to draw."
        )
    figure = _figure(7.5, 0.7 + 2.7 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for name, axis in zip(panels, axes, strict=True):
        if name == "loss":
            _draw_loss(axis, loss, found.series("validation", "loss"))
        else:
            _draw_accuracy(axis, accuracy)
    axes[-1].set_xlabel("step")
    axes[0].set_title(title, loc="left", color=_INK, fontweight="bold")
    return _write(figure, path)


def plot_filters(weights: NDArray[Any], path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Draw the filters of a first layer, (n, 3, h, w) or (n, 1, h, w), as a grid, and write a PNG.

    Zero is mid grey. Every filter is stretched on its own by its largest magnitude, so that the
    pattern of a weak one shows too; colours keep their sign.

    Raises:
        ArgumentError: the shape is another one, or a weight is no finite number.
        DeviceError: matplotlib is not installed.
    """
    if weights.ndim != 4 or weights.shape[1] not in (1, 3) or 0 in weights.shape:
        raise ArgumentError(
            f"plot_filters: weights must be (n, 3, h, w) or (n, 1, h, w), not {weights.shape}."
        )
    filters = np.asarray(weights, np.float32).transpose(0, 2, 3, 1)
    if not np.isfinite(filters).all():
        raise ArgumentError("plot_filters: the weights hold NaN or infinity; training diverged.")
    grid = _grid(filters)
    width = 8.0
    # Long thin filters would ask for a picture of gigabytes; they are shown smaller instead.
    picture_height = min(width * grid.shape[0] / grid.shape[1], 4 * width)
    figure = _figure(width + 0.4, picture_height + 0.7)
    axis = figure.subplots()
    axis.imshow(grid, interpolation="nearest", cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()
    count, height, wide = filters.shape[:3]
    text = title or f"{count} filters of the first layer, {height} x {wide}"
    axis.set_title(text, loc="left", color=_INK, fontweight="bold")
    return _write(figure, path)


def plot_pairs(
    originals: Sequence[NDArray[np.uint8]],
    others: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str = "",
) -> Path:
    """Draw images (3, h, w) of any sizes beside what became of them, and write a PNG.

    Each column is one image: as it was, as it is, and what differs, four times as strong, with zero
    as mid grey; its caption stands below.

    Raises:
        ArgumentError: there are none, or not as many of each, or two of a pair differ in size.
        DeviceError: matplotlib is not installed.
    """
    sizes = [one.shape for one in originals]
    if not sizes or [one.shape for one in others] != sizes or len(captions) != len(sizes):
        raise ArgumentError("plot_pairs: images, others and captions must be pairs of one size.")
    columns = len(sizes)
    figure = _figure(1.9 * columns + 0.6, 6.4)
    axes = figure.subplots(3, columns, squeeze=False)
    for column, (one, other) in enumerate(zip(originals, others, strict=True)):
        difference = 128.0 + 4.0 * (other.astype(np.float64) - one)
        shown = (one, other, np.clip(difference, 0, 255).astype(np.uint8))
        for axis, image in zip(axes[:, column], shown, strict=True):
            axis.imshow(image.transpose(1, 2, 0), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        axes[2, column].set_xlabel(captions[column], color=_INK)
    for axis, text in zip(axes[:, 0], ("original", "decoded", "difference x 4"), strict=True):
        axis.set_ylabel(text, color=_INK)
    if title:
        figure.suptitle(title, x=0.01, ha="left", color=_INK, fontweight="bold")
    return _write(figure, path)


def _draw_loss(
    axis: Axes, train: tuple[list[int], list[float]], validation: tuple[list[int], list[float]]
) -> None:
    steps, values = train
    smooth = _smoothed(np.asarray(values))
    if smooth is None:
        axis.plot(steps, values, color=_BLUE, linewidth=1.6, label="training")
    else:
        axis.plot(steps, values, color=_BLUE, alpha=0.25, linewidth=0.8)
        axis.plot(steps, smooth, color=_BLUE, linewidth=1.8, label="training, smoothed")
        # One bad batch must not flatten everything else.
        axis.set_ylim(*_range(np.concatenate([np.asarray(values), np.asarray(validation[1])])))
    if validation[0]:
        axis.plot(*validation, "o-", color=_ORANGE, markersize=3.5, label="validation")
    axis.legend(frameon=False, loc="upper right")
    _tidy(axis, "loss")


def _draw_accuracy(axis: Axes, accuracy: tuple[list[int], list[float]]) -> None:
    from matplotlib.ticker import PercentFormatter

    steps, values = accuracy
    axis.plot(steps, values, "o-", color=_ORANGE, markersize=3.5, linewidth=1.6)
    best = int(np.nanargmax(values)) if np.isfinite(values).any() else None
    if best is not None:
        axis.annotate(
            f"best {values[best]:.1%} at step {steps[best]:,}",
            (1.0, 0.04),
            xycoords="axes fraction",
            ha="right",
            color=_INK,
        )
        axis.plot(steps[best], values[best], "o", color=_ORANGE, markersize=8, fillstyle="none")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    _tidy(axis, "validation accuracy")


def _tidy(axis: Axes, label: str) -> None:
    axis.set_ylabel(label, color=_INK)
    axis.grid(color=_GREY, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(_GREY)
    axis.tick_params(colors=_INK, length=0)
    axis.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")


def _smoothed(values: NDArray[Any]) -> NDArray[Any] | None:
    """A running mean over a fiftieth of the run; None where there is too little, or a NaN."""
    if len(values) < 50 or not np.isfinite(values).all():
        return None
    half = max(len(values) // 100, 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    smooth: NDArray[Any] = (sums[high] - sums[low]) / (high - low)
    return smooth


def _range(values: NDArray[Any]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(np.quantile(finite, 0.998))
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room


def _grid(filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """All filters in one picture, one white pixel apart, about 3 wide by 2 high."""
    count, height, width, channels = filters.shape
    columns = min(count, math.ceil(math.sqrt(count * 1.5 * height / width)))
    # An even grid looks better than a ragged last row: 96 becomes 12 x 8.
    columns = next((c for c in range(columns, columns + 4) if count % c == 0), columns)
    rows = math.ceil(count / columns)
    gap = 1 if max(height, width) < 16 else 2
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    grid = np.ones(shape, np.float32)
    for number, one in enumerate(filters):
        top = (number // columns) * (height + gap)
        left = (number % columns) * (width + gap)
        scale = float(np.abs(one).max()) or 1.0
        grid[top : top + height, left : left + width] = 0.5 + 0.5 * one / scale
    return grid[:, :, 0] if channels == 1 else grid


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DeviceError(
            "pictures need matplotlib, which is not installed.", fix="pip install matplotlib"
        ) from None
    # Without pyplot: no global state, no window, nothing to close.
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Figure, path: str | os.PathLike[str]) -> Path:
    with atomic_file(path) as file:
        figure.savefig(file, format="png")
    return Path(path)
