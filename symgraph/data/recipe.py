"""How the images of a batch are made: what a loader's threads, or its process, are given to do."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.data.augment import Augment, check_images
from symgraph.data.dataset import Dataset, Labels, Mean
from symgraph.frozen import frozen

# Images read at a time: small enough to stay in the cache between reading and cropping.
_CHUNK = 16

Places = npt.NDArray[np.int64]
Arrays = tuple[Any, ...]  # images and labels; of whole images also tops, lefts and mirrors


def image_bytes(side: int, dtype: str) -> int:
    """Give the bytes of an image, 3 x side x side.

    >>> image_bytes(227, "float32")
    618348
    """
    return 3 * side * side * np.dtype(dtype).itemsize


@frozen
class Recipe:
    """All that making a batch needs; it holds no loader, so that a forgotten one is collected.

    `cropped` images are float32, mirrored and without the mean; others are bytes as they are, and
    it is said where they are to be cut.
    """

    dataset: Dataset
    augment: Augment
    mean: Mean
    cropped: bool = True

    @property
    def side(self) -> int:
        """The side of an image in a batch."""
        return self.augment.crop if self.cropped else self.dataset.image_size

    @property
    def dtype(self) -> str:
        """The dtype of the images of a batch."""
        return "float32" if self.cropped else "uint8"

    @property
    def image_bytes(self) -> int:
        """The bytes of an image in a batch."""
        return image_bytes(self.side, self.dtype)

    def make(self, indices: Places, epoch: int, images: npt.NDArray[Any], labels: Labels) -> float:
        """Read, crop and mirror the images at these places of the data set into the arrays.

        Returns the seconds that it took.
        """
        begin = time.perf_counter()
        for start in range(0, len(indices), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(indices)))
            pixels, labels[part] = self.dataset.read(indices[part])
            if self.cropped:
                self.augment(pixels, indices[part], epoch, mean=self.mean, out=images[part])
            else:
                check_images(pixels, self.augment.crop, "Loader")
                images[part] = pixels
        return time.perf_counter() - begin

    def windows(self, indices: Places, epoch: int) -> Arrays:
        """Give tops, lefts and mirrors of whole images, int32 and bool; nothing where they are cut.

        They are those of `crop_mirror`.
        """
        if self.cropped:
            return ()
        top, left, mirror = self.augment.draws(indices, epoch, self.dataset.image_size)
        return top.astype(np.int32), left.astype(np.int32), mirror
