"""The images of a folder as they are: of any size, with the names of its sub-folders as classes."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from symgraph.data.dataset import Images, Labels
from symgraph.data.images import MAX_PIXELS, MAX_SIZE, check_size, decode_file, require_pil
from symgraph.data.npy import shown
from symgraph.data.source import list_images
from symgraph.errors import ArgumentError, DataError
from symgraph.graph.arguments import plain_int


class Pictures(NamedTuple):
    """Images uint8 (3, H, W) of any sizes, their labels int32 (N,), and the names of classes."""

    images: list[Images]
    labels: Labels
    classes: tuple[str, ...]


def read_images(
    folder: str | os.PathLike[str], size: int | None = None, *, limit: int | None = None
) -> Pictures:
    """Read the images of a folder in the order of their names, the first `limit` of them.

    Sub-folders are classes. With `size` the whole of each is resized to a square of that side, as
    `prepare` does; otherwise each keeps its own height and width, which need not be equal.

    Raises `ArgumentError` for a limit below 1, `DataMissingError` where there is no such folder,
    and `DataError` for one without images, and for an image that is damaged or larger than 4,096
    pixels on a side.
    """
    require_pil()
    if size is not None:
        check_size(size)
    if limit is not None and plain_int("read_images", "limit", limit) < 1:
        raise ArgumentError(f"read_images: limit must be >= 1, got {limit}.")
    listing = list_images(folder)
    if listing.skipped:
        first = listing.skipped[0]
        raise DataError(f"{first.file} {first.reason}.", fix="remove it")
    files = listing.splits["all"][:limit]
    images = []
    for file in files:
        try:
            image = decode_file(listing.root / file.name, size, False, MAX_PIXELS)
        except DataError as error:
            raise DataError(f"{shown(file.name)} {error.message}.", fix="remove it") from error
        if max(image.shape[1:]) > MAX_SIZE:
            height, width = image.shape[1:]
            raise DataError(
                f"{shown(file.name)} is {height} x {width}, more than {MAX_SIZE} on a side.",
                fix="give a size to resize all images to",
            )
        images.append(image)
    labels = np.array([file.label for file in files], np.int32)
    return Pictures(images, labels, tuple(listing.classes))
