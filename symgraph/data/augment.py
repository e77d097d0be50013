"""Crop, mirror and mean subtraction: uint8 (n, 3, S, S) to float32 (n, 3, c, c).

Training takes one random crop and mirror per image, evaluation the centre (Ding et al., arXiv
1412.2302). The published order is: subtract the mean image, crop, mirror. Here the uint8 image
is cropped first, which moves a quarter of the bytes, and the mean image is cropped and mirrored
at the same place; the result has the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from symgraph.data.dataset import Images, Mean
from symgraph.data.draws import check_seed, crop_draws
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.frozen import frozen

Floats = npt.NDArray[np.float32]


def check_images(images: npt.NDArray[np.generic], crop: int, name: str) -> int:
    """Return the side S of a uint8 array (n, 3, S, S) from which `crop` can be cut."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        got = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise ArgumentTypeError(f"{name}: images must be a uint8 array, got {got}.")
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ArgumentError(f"{name}: images must have shape (n, 3, S, S), got {images.shape}.")
    size = int(images.shape[2])
    if not 1 <= crop <= size:
        raise ArgumentError(
            f"{name}: crop must lie in 1 .. {size}, the image size, got {crop}.",
            fix=f"pass crop={size} or less, or use a data set with larger images",
        )
    return size


def _check_out(out: Floats | None, shape: tuple[int, ...], name: str) -> Floats:
    """Return `out`, or a new float32 array where it is None."""
    if out is None:
        return np.empty(shape, dtype=np.float32)
    if out.dtype != np.float32 or out.shape != shape or not out.flags.writeable:
        raise ArgumentError(
            f"{name}: out must be a writeable float32 array of shape {shape}, "
            f"got {out.dtype} {out.shape}{'' if out.flags.writeable else ', read-only'}."
        )
    return out


def _check_places(
    places: npt.ArrayLike, images: int, offsets: int, name: str
) -> npt.NDArray[np.int64]:
    """Return the tops or lefts of the crops as int64 (n,) within 0 .. offsets - 1."""
    array = np.asarray(places, dtype=np.int64)
    if array.shape != (images,):
        raise ArgumentError(
            f"crop_mirror: {name} must have shape ({images},), one for each image, "
            f"got {array.shape}."
        )
    if images and (int(array.min()) < 0 or int(array.max()) >= offsets):
        raise ArgumentError(
            f"crop_mirror: {name} must lie in 0 .. {offsets - 1}, "
            f"got {int(array.min())} .. {int(array.max())}."
        )
    return array


def _turner(channels: int, rows: int, size: int) -> Callable[[Images], Images]:
    """Return a function that turns uint8 (channels, rows, size) from left to right, in one place.

    Eight bytes at a time where rows are made of such words: the words in reverse order, and the
    bytes of each as a change of byte order, which takes a quarter of the time.
    """
    turned = np.empty((channels, rows, size), dtype=np.uint8)
    if size % 8:

        def by_bytes(image: Images) -> Images:
            np.copyto(turned, image[:, :, ::-1])
            return turned

        return by_bytes
    word = np.dtype(np.uint64)

    def by_words(image: Images) -> Images:
        if image.strides[2] != 1:
            image = np.ascontiguousarray(image)
        np.copyto(turned.view(word), image.view(word.newbyteorder())[:, :, ::-1])
        return turned

    return by_words


def crop_mirror(
    images: Images,
    crop: int,
    top: npt.ArrayLike,
    left: npt.ArrayLike,
    mirror: npt.ArrayLike,
    *,
    mean: Mean | None = None,
    out: Floats | None = None,
) -> Floats:
    """Return each image's crop x crop window at (top, left), mirrored where asked, minus the mean.

    out[k] = flip_k((images[k] - mean)[:, top_k : top_k + crop, left_k : left_k + crop])

    images is uint8 (n, C, S, S), mean float32 (C, S, S); the result is float32 (n, C, crop, crop),
    written to `out` where given. Raises `ArgumentError` for sizes that do not fit.
    """
    size = check_images(images, crop, "crop_mirror")
    count, channels = int(images.shape[0]), int(images.shape[1])
    out = _check_out(out, (count, channels, crop, crop), "crop_mirror")
    if mean is not None and (mean.shape != images.shape[1:] or mean.dtype != np.float32):
        raise ArgumentError(
            f"crop_mirror: mean must be float32 of shape {images.shape[1:]}, "
            f"got {mean.dtype} {mean.shape}."
        )
    tops = _check_places(top, count, size - crop + 1, "top").tolist()
    lefts = _check_places(left, count, size - crop + 1, "left").tolist()
    flips = np.asarray(mirror, dtype=np.bool_)
    if flips.shape != (count,):
        raise ArgumentError(f"crop_mirror: mirror must have shape ({count},), got {flips.shape}.")
    flipped = None if mean is None else np.ascontiguousarray(mean[:, :, ::-1])
    turn = _turner(channels, crop, size)
    for k, (y, x, flip) in enumerate(zip(tops, lefts, flips.tolist())):
        rows = images[k, :, y : y + crop]
        if flip:  # turning bytes round, not floats, and reading a turned mean: half the time
            rows, x = turn(rows), size - crop - x
        np.copyto(out[k], rows[:, :, x : x + crop])
        if mean is not None and flipped is not None:
            offset = (flipped if flip else mean)[:, y : y + crop, x : x + crop]
            np.subtract(out[k], offset, out=out[k])
    return out


def centre_crop(
    images: Images, crop: int, *, mean: Mean | None = None, out: Floats | None = None
) -> Floats:
    """Return the centre crop x crop window of each image minus the mean's, as float32.

    The window starts at (S - crop) // 2, which is 14 for 256 -> 227, as published.
    """
    size = check_images(images, crop, "centre_crop")
    places = np.full(len(images), (size - crop) // 2)
    mirror = np.zeros(len(images), dtype=np.bool_)
    return crop_mirror(images, crop, places, places, mirror, mean=mean, out=out)


@frozen
class Augment:
    """Random crop and mirror per image, a pure function of (seed, epoch, global image index).

    `train=False` takes the centre crop; `mirror=False` keeps images that have a handedness, such
    as digits, as they are.

    >>> draws = Augment(crop=227, seed=1).draws(np.arange(4), epoch=0, size=256)
    >>> draws[0].shape
    (4,)
    """

    crop: int
    seed: int = 1
    train: bool = True
    mirror: bool = True

    def __post_init__(self) -> None:
        check_seed(self.seed, "Augment: seed")
        if isinstance(self.crop, bool) or not isinstance(self.crop, int) or self.crop < 1:
            raise ArgumentError(f"Augment: crop must be a positive integer, got {self.crop!r}.")

    def draws(
        self, indices: npt.ArrayLike, epoch: int, size: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return (top, left, mirror), each (n,), for images of side `size` at these indices."""
        if self.crop > size:
            raise ArgumentError(
                f"Augment: crop must be at most the image size {size}, got {self.crop}.",
                fix=f"pass crop={size} or less, or use a data set with larger images",
            )
        if self.train:
            top, left, mirror = crop_draws(indices, self.seed, epoch, size - self.crop + 1)
            return top, left, mirror & self.mirror
        places = np.full(np.shape(indices), (size - self.crop) // 2, dtype=np.int64)
        return places, places, np.zeros(np.shape(indices), dtype=np.bool_)

    def __call__(
        self,
        images: Images,
        indices: npt.ArrayLike,
        epoch: int,
        *,
        mean: Mean | None = None,
        out: Floats | None = None,
    ) -> Floats:
        """Return the float32 (n, 3, crop, crop) batch of the images with these global indices."""
        size = check_images(images, self.crop, "Augment")
        top, left, mirror = self.draws(indices, epoch, size)
        return crop_mirror(images, self.crop, top, left, mirror, mean=mean, out=out)
