"""The protocol that a data set of images follows, and the checks that all of them share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from symgraph.errors import ArgumentError, ArgumentTypeError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Mean = npt.NDArray[np.float32]


@runtime_checkable
class Dataset(Protocol):
    """Square colour images of one size with one label each, read by index.

    `read` may be called from several threads at once. Anything with these members can be given
    to `Loader`.
    """

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    @property
    def classes(self) -> list[str]:
        """The name of each label."""
        ...

    @property
    def image_size(self) -> int:
        """The side S of the stored images, in pixels."""
        ...

    @property
    def mean_image(self) -> Mean:
        """The mean of the training images: float32 (3, S, S), values 0 .. 255."""
        ...

    def read(self, indices: npt.ArrayLike) -> tuple[Images, Labels]:
        """Return the images uint8 (n, 3, S, S) and labels int32 (n,) at these indices."""
        ...


def check_indices(indices: npt.ArrayLike, count: int, name: str) -> npt.NDArray[np.int64]:
    """Return `indices` as int64 (n,) within 0 .. count - 1.

    Raises `ArgumentTypeError` for other dtypes and `ArgumentError` for other shapes and values;
    negative indices are refused, because they are usually a mistake in a sampler.
    """
    array = np.asarray(indices)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"{name}: indices must be integers, got dtype {array.dtype}.")
    if array.ndim != 1:
        raise ArgumentError(f"{name}: indices must have one dimension, got shape {array.shape}.")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= count):
        raise ArgumentError(
            f"{name}: indices must lie in 0 .. {count - 1}, "
            f"got {int(array.min())} .. {int(array.max())}."
        )
    return array.astype(np.int64, copy=False)
