"""The 1,797 handwritten digits that ship with scikit-learn, as a data set of colour images.

Real images that need no download. They are 8 x 8 pixels with 17 levels of grey; the images are
kept small (115 KB in all) and enlarged when they are read, by exact integer arithmetic, so that
the pixels do not depend on how many are read at once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from symgraph.data.dataset import Images, Labels, Mean, check_indices
from symgraph.data.draws import FILE_STREAM, SPLIT_STREAM, permutation
from symgraph.data.images import check_size
from symgraph.errors import ArgumentError, DataError

_SIDE = 8
_MAX_SIDE = 1024
_CLASSES = 10
_VALIDATION_PER_CLASS = 36
_SPLIT_SEED = 1
# Images enlarged at a time: their intermediate values then stay in the cache of a core.
_CHUNK = 16

Integers = npt.NDArray[np.int64]


def _weights(size: int) -> tuple[Integers, Integers, Integers, Integers]:
    """Return (low, high, weight of low, weight of high) of bilinear enlargement along one side.

    Pixel i of `size` has its centre at (2 i + 1) * 8 / (2 size) - 1/2 in the small image; weights
    are in units of 1 / (2 size), so they are integers. Beyond the outermost centres the edge
    pixel goes on.
    """
    unit = 2 * size
    position = np.clip((2 * np.arange(size) + 1) * _SIDE - size, 0, (_SIDE - 1) * unit)
    low = np.minimum(position // unit, _SIDE - 2)
    rest = position - low * unit
    return low, low + 1, unit - rest, rest


def enlarge(small: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Return 8 x 8 images (n, 8, 8) enlarged to (n, size, size), bilinear, rounded half up."""
    low, high, low_weight, high_weight = _weights(size)
    unit = (2 * size) ** 2
    # 255.5 * (2 size)**2 fits into 32 bits up to size 1449; half the traffic of 64 bits.
    a, b = low_weight.astype(np.int32), high_weight.astype(np.int32)
    out = np.empty((len(small), size, size), dtype=np.uint8)
    for start in range(0, len(small), _CHUNK):
        part = small[start : start + _CHUNK].astype(np.int32)
        wide = part[:, :, low] * a + part[:, :, high] * b
        tall = wide[:, low] * a[:, None]
        tall += wide[:, high] * b[:, None]
        tall += unit // 2
        tall //= unit
        out[start : start + _CHUNK] = tall
    return out


@lru_cache(maxsize=1)
def _load() -> tuple[npt.NDArray[np.uint8], Labels]:
    """Return all digits as uint8 (1797, 8, 8), 0 .. 255, and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "The digits data set ships with scikit-learn, which is not installed.",
            fix="pip install symgraph[models]",
        ) from error
    table = load_digits()
    grey = (np.asarray(table.images).astype(np.int64) * 255 + 8) // 16
    return grey.astype(np.uint8), np.asarray(table.target).astype(np.int32)


def _split(labels: Labels, split: str) -> npt.NDArray[np.int64]:
    """Return the indices of a split: 36 of each digit for validation, the rest for training."""
    held_out = np.zeros(len(labels), dtype=np.bool_)
    for digit in range(_CLASSES):
        members = np.flatnonzero(labels == digit)
        order = permutation(len(members), _SPLIT_SEED, digit, SPLIT_STREAM)
        held_out[members[order[:_VALIDATION_PER_CLASS]]] = True
    members = np.flatnonzero(held_out if split == "validation" else ~held_out)
    return members[permutation(len(members), _SPLIT_SEED, 0, FILE_STREAM)]


@lru_cache(maxsize=4)
def _mean(size: int) -> Mean:
    """Return the mean of the enlarged training images, from exact sums."""
    grey, labels = _load()
    train = grey[_split(labels, "train")]
    total = np.zeros((size, size), dtype=np.int64)
    for start in range(0, len(train), 64):
        total += enlarge(train[start : start + 64], size).sum(axis=0, dtype=np.int64)
    mean = np.repeat((total / len(train)).astype(np.float32)[None], 3, axis=0)
    mean.flags.writeable = False
    return mean


class Digits:
    """One split of scikit-learn's digits, enlarged to S x S; follows the `Dataset` protocol.

    The split is fixed: 1,437 images to train on and 360 (36 of each digit) to validate with.
    Digits have a handedness: train them with `Augment(..., mirror=False)`.
    """

    def __init__(self, size: int = 256, split: str = "train") -> None:
        if check_size(size) > _MAX_SIDE:
            raise ArgumentError(f"digits: size must be at most {_MAX_SIDE}, got {size}.")
        self._size = size
        if split not in ("train", "validation"):
            raise ArgumentError(f"split must be train or validation, got {split!r}.")
        self.split = split
        grey, labels = _load()
        members = _split(labels, split)
        self._small, self._labels = grey[members], labels[members]

    def __reduce__(self) -> tuple[object, ...]:
        return Digits, (self._size, self.split)

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        return f"Digits({self.split}: {len(self)} images of 3 x {self._size} x {self._size})"

    @property
    def classes(self) -> list[str]:
        """The digits "0" to "9"."""
        return [str(digit) for digit in range(_CLASSES)]

    @property
    def image_size(self) -> int:
        """The side S of the enlarged images, in pixels."""
        return self._size

    @property
    def mean_image(self) -> Mean:
        """The mean of the training images: float32 (3, S, S), read-only."""
        return _mean(self._size)

    def read(self, indices: npt.ArrayLike) -> tuple[Images, Labels]:
        """Return the images uint8 (n, 3, S, S), three equal channels, and labels int32 (n,)."""
        wanted = check_indices(indices, len(self), "Digits.read")
        grey = enlarge(self._small[wanted], self._size)
        images = np.empty((len(wanted), 3, self._size, self._size), dtype=np.uint8)
        images[:] = grey[:, None]
        return images, self._labels[wanted]


def digits(size: int = 256, split: str = "train") -> Digits:
    """Return the digits data set, "train" (1,437 images) or "validation" (360).

    Raises `DataError` where scikit-learn is not installed.

    >>> len(digits(size=64, split="validation"))
    360
    """
    return Digits(size, split)
