"""How the images of a batch are made: what a loader's threads, or its process, are given to do."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from symgraph.data.augment import Augment, Floats
from symgraph.data.dataset import Dataset, Labels, Mean
from symgraph.frozen import frozen

# Images read at a time: small enough to stay in the cache between reading and cropping.
_CHUNK = 16

Places = npt.NDArray[np.int64]


@frozen
class Recipe:
    """All that making a batch needs; it holds no loader, so that a forgotten one is collected."""

    dataset: Dataset
    augment: Augment
    mean: Mean

    def make(self, indices: Places, epoch: int, images: Floats, labels: Labels) -> float:
        """Read, crop and mirror the images at these places of the data set into the arrays.

        Returns the seconds that it took.
        """
        begin = time.perf_counter()
        for start in range(0, len(indices), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(indices)))
            pixels, labels[part] = self.dataset.read(indices[part])
            self.augment(pixels, indices[part], epoch, mean=self.mean, out=images[part])
        return time.perf_counter() - begin
