"""Images that are decoded where they are used: inside of the graph of a training step.

The networks of a set are shared variables, so they lie on the device of the function that uses
them, and stay there. A step gathers those of its batch by number, and nothing is copied when the
order changes. Crops and mirror images cost nothing: they are other coordinates, and these go into
the first layer, so only the pixels that are looked at are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from symgraph.data.dataset import Images, check_indices
from symgraph.data.draws import permutation
from symgraph.data.images import check_size
from symgraph.data.inrset import InrSet
from symgraph.data.siren import COLOURS, bytes_of, extent
from symgraph.dims import Size, dim
from symgraph.errors import ArgumentError
from symgraph.function import function
from symgraph.graph.leaves import Shared, as_value, cast_to, constant, shared, tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.ops import sampling

PIXELS = 1 << 18  # decoded at a time by `decode`


class Window(NamedTuple):
    """Where a batch looks: signs and shifts (B, 2) of coordinates, y before x, -1 to 1."""

    sign: Value | None
    shift: Value | None


class InrImages:
    """The images of a set as values: networks, labels, and an order in which they are taken.

    >>> import symgraph as sg
    >>> from symgraph.data.inrset import quantised
    >>> siren = sg.data.Siren(layers=1, width=4)
    >>> layers = [quantised(np.zeros((9, *s), "f"), np.ones((9, s[0]), "f"), "int8")
    ...           for s in siren.sizes]
    >>> sizes, labels = np.full((9, 2), 8, "i4"), np.arange(9, dtype="i4")
    >>> classes, errors = tuple("abcdefghi"), np.zeros(9, "f")
    >>> images = InrImages(InrSet(siren, tuple(layers), sizes, labels, classes, errors))
    >>> indices = sg.tensor("indices", (sg.dim("B"),), "int32")
    >>> images.pixels(indices, 8, 8).shape
    (B, 3, 8, 8)
    """

    def __init__(self, images: InrSet) -> None:
        self.set, self.siren = images, images.siren
        self.weights = [shared(layer.weight, f"inr.weight.{k}") for k, layer in self._layers()]
        self.biases = [shared(layer.bias, f"inr.bias.{k}") for k, layer in self._layers()]
        self.scales = [
            None if layer.scale is None else shared(layer.scale, f"inr.scale.{k}")
            for k, layer in self._layers()
        ]
        self.labels = shared(np.asarray(images.labels, np.int32), "inr.labels")
        reach = np.array([extent(*size) for size in images.sizes.tolist()], np.float32)
        self.reach = shared(reach, "inr.reach")
        self.order = shared(np.arange(len(images), dtype=np.int32), "inr.order")
        self.cursor = shared(np.int32(0), "inr.cursor")

    def _layers(self) -> Any:
        return enumerate(self.set.layers)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.set)

    def shuffle(self, seed: int, epoch: int) -> None:
        """Take the images in another order from now on, by seed and epoch, from its start."""
        self.order.value = permutation(len(self), seed, epoch).astype(np.int32)
        self.cursor.value = np.int32(0)

    def next(self, batch: int) -> tuple[Value, dict[Shared, Value]]:
        """Build the numbers of the next images in the order, and the update that goes on.

        The images at the end that do not fill a batch are left out, as published.
        Raises `ArgumentError` for a batch with more images than there are.
        """
        if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= len(self):
            raise ArgumentError(
                f"InrImages: batch must lie in 1 .. {len(self)}, got {batch!r:.40}."
            )
        places = self.cursor + F.arange(batch, dtype="int32")
        after = self.cursor + np.int32(batch)
        again = F.where(after + np.int32(batch) <= np.int32(len(self)), after, np.int32(0))
        return F.take(self.order, places, axis=0), {self.cursor: cast_to(again, "int32")}

    def numbers(self, indices: Value) -> tuple[list[Value], list[Value]]:
        """Build the networks of some images as float32: weights (B, o, i), biases (B, o, 1)."""
        weights, biases = [], []
        for weight, bias, scale in zip(self.weights, self.biases, self.scales, strict=True):
            chosen = cast_to(F.take(weight, indices, axis=0), "float32")
            if scale is not None:
                factor = F.take(scale, indices, axis=0)
                chosen = chosen * F.expand_dims(factor, (1, 2))
            weights.append(chosen)
            biases.append(F.expand_dims(cast_to(F.take(bias, indices, axis=0), "float32"), 2))
        return weights, biases

    def pixels(
        self,
        indices: Value,
        height: int,
        width: int,
        *,
        crop: int | None = None,
        pad: int = 0,
        mirror: bool = False,
        random: bool = False,
    ) -> Value:
        """Build pixels (B, 3, height, width) as bytes, 0 .. 255 in float32, of images by number.

        All are decoded at this size, whatever their own. `crop` cuts a square out, the centre, or
        with `random` one anywhere, which may reach `pad` black pixels beyond the edges, and with
        `mirror` every other one is turned from left to right; each image has draws of its own.

        Raises `ArgumentError` for a crop that is larger than the image.
        """
        numbers = as_value(indices)
        rows, columns = self._window(height, width, crop, pad)
        window = _window(numbers.shape[0], (height, width), (rows, columns), pad, mirror, random)
        places = _centred((height, width), (rows, columns))
        weights, biases = self.numbers(numbers)
        reach = F.expand_dims(F.take(self.reach, numbers, axis=0), 1)
        first = weights[0] * reach
        if window.shift is not None:
            moved = F.sum(first * F.expand_dims(window.shift, 1), axis=2, keepdims=True)
            biases[0] = biases[0] + moved
        if window.sign is not None:
            first = first * F.expand_dims(window.sign, 1)
        weights[0] = first
        colours = bytes_of(self.siren.graph(weights, biases, constant(places)))
        if pad and random and window.shift is not None:
            colours = colours * _inside(places, window, (height, width))
        return F.reshape(colours, (numbers.shape[0], COLOURS, rows, columns))

    def _window(self, height: int, width: int, crop: int | None, pad: int) -> tuple[int, int]:
        """Give the rows and columns of what is cut out."""
        for side in (height, width, 1 if crop is None else crop):
            check_size(side)
        if isinstance(pad, bool) or not isinstance(pad, int) or not 0 <= pad <= min(height, width):
            raise ArgumentError(
                f"InrImages: pad must lie in 0 .. {min(height, width)}, got {pad!r:.40}."
            )
        if crop is None:
            return height, width
        if crop > min(height, width):
            raise ArgumentError(
                f"InrImages: crop must be at most {min(height, width)}, got {crop}.",
                fix="decode at a larger size",
            )
        return crop, crop

    def label(self, indices: Value) -> Value:
        """Build the labels (B,) of images by number."""
        return F.take(self.labels, indices, axis=0)


def normalised(pixels: Value, mean: Sequence[float], deviation: Sequence[float]) -> Value:
    """Build (pixels / 255 - mean) / deviation, with three numbers each, for bytes (B, 3, H, W).

    Raises `ArgumentError` where there are not three numbers, or a deviation is not above 0.
    """
    if len(mean) != COLOURS or len(deviation) != COLOURS or not all(d > 0 for d in deviation):
        raise ArgumentError(
            "normalised: mean and deviation must be three numbers each, the latter above 0, "
            f"got {tuple(mean)} and {tuple(deviation)}."
        )
    scale = 1 / (255 * np.asarray(deviation, np.float64))
    shift = np.asarray(mean, np.float64) / np.asarray(deviation, np.float64)
    factor = constant(scale.reshape(1, COLOURS, 1, 1).astype(np.float32))
    return pixels * factor - constant(shift.reshape(1, COLOURS, 1, 1).astype(np.float32))


def _span(size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Give how many steps between pixels there are from one edge to the other, at least one."""
    return np.maximum(np.array(size, np.float64) - 1, 1)


def _centred(size: tuple[int, int], window: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Give the places (2, P) of a window's pixels from its centre, where images reach -1 .. 1."""
    half = [np.arange(side) - (side - 1) / 2 for side in window]
    pair = np.meshgrid(*(2 * h / s for h, s in zip(half, _span(size))), indexing="ij")
    return np.stack([axis.ravel() for axis in pair]).astype(np.float32)


def _window(
    count: Size,
    size: tuple[int, int],
    window: tuple[int, int],
    pad: int,
    mirror: bool,
    random: bool,
) -> Window:
    """Draw where the images of a batch are looked at; a centre crop needs no numbers."""
    if not random:
        # the middle of an odd rest lies between two pixels: the one before, as `centre_crop`
        rest = np.array(size) - np.array(window)
        if not (rest % 2).any():
            return Window(None, None)
        half = -(rest % 2) / _span(size)
        shift = F.broadcast_to(constant(half[None].astype(np.float32)), (count, 2))
        return Window(None, shift)
    sides = []
    for side, cut, span in zip(size, window, _span(size)):
        place = sampling.integers(-pad, side + pad - cut + 1, shape=(count,), by_row=True)
        centre = cast_to(place, "float32") * 2.0 + float(cut - side)
        sides.append(centre / float(span))
    shift = F.stack(sides, axis=1)
    if not mirror:
        return Window(None, shift)
    coin = sampling.bernoulli((count,), 0.5, by_row=True)
    turned = F.where(coin, constant(np.float32(-1)), constant(np.float32(1)))
    return Window(F.stack([F.ones_like(turned), turned], axis=1), shift)


def _inside(places: npt.NDArray[np.float32], window: Window, size: tuple[int, int]) -> Value:
    """Build 1 where a pixel lies in its image and 0 beyond, (B, 1, P)."""
    where = constant(places[None])
    if window.sign is not None:
        where = where * F.expand_dims(window.sign, 2)
    where = where + F.expand_dims(window.shift, 2)
    edge = constant((1 + 1 / _span(size)).reshape(1, 2, 1).astype(np.float32))
    return cast_to(F.all(F.abs(where) < edge, axis=1, keepdims=True), "float32")


def decode(
    images: InrSet,
    indices: npt.ArrayLike | None = None,
    *,
    size: tuple[int, int] | None = None,
    backend: str | None = None,
) -> list[Images]:
    """Decode images of a set to uint8 (3, H, W), each at its own size or all at one `size`.

    Raises `ArgumentError` and `ArgumentTypeError` for indices and sizes that are none.
    """
    if size is not None and not (isinstance(size, tuple) and len(size) == 2):
        raise ArgumentError(f"decode: size must be (height, width), got {size!r:.40}.")
    wanted = np.arange(len(images)) if indices is None else check_indices(
        indices, len(images), "decode"
    )  # fmt: skip
    source = InrImages(images)
    own = [size or (int(h), int(w)) for h, w in images.sizes[wanted].tolist()]
    found: dict[int, Images] = {}
    for one in sorted(set(own)):
        places = [place for place, other in enumerate(own) if other == one]
        number = tensor("indices", (dim("B"),), "int32")
        run = function(
            [number], cast_to(source.pixels(number, *one), "uint8"), name="inr.decode",
            backend=backend,
        )  # fmt: skip
        room = max(1, PIXELS // (one[0] * one[1]))
        for begin in range(0, len(places), room):
            part = places[begin : begin + room]
            for place, image in zip(part, run(wanted[part].astype(np.int32)), strict=True):
                found[place] = np.asarray(image)
    return [found[place] for place in range(len(wanted))]


def measured(images: InrSet, originals: Sequence[Images], backend: str | None = None) -> InrSet:
    """Give a set with the errors that its images have against the originals, decoded again.

    Raises `DataError` for originals of other sizes.
    """
    images.check_sizes([one.shape[1:] for one in originals])
    errors = np.empty(len(images), np.float32)
    for place, (mine, theirs) in enumerate(zip(decode(images, backend=backend), originals)):
        errors[place] = np.square(mine.astype(np.float64) - theirs).mean()
    return InrSet(images.siren, images.layers, images.sizes, images.labels, images.classes, errors)
