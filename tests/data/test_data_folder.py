"""Folders of images read as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.data import read_images
from symgraph.errors import ArgumentError, DataError, DataMissingError

PIL = pytest.importorskip("PIL.Image", reason="needs Pillow")


def write(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Write noise as a PNG and give it as (3, height, width)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    path.parent.mkdir(exist_ok=True)
    PIL.fromarray(pixels).save(path)
    return pixels.transpose(2, 0, 1)


def test_images_keep_their_sizes(tmp_path: Path) -> None:
    wide, tall = write(tmp_path / "b" / "wide.png", 3, 7), write(tmp_path / "a" / "tall.png", 5, 2)
    found = read_images(tmp_path)
    assert found.classes == ("a", "b")
    assert found.labels.tolist() == [0, 1]
    for one, wanted in zip(found.images, (tall, wide), strict=True):
        np.testing.assert_array_equal(one, wanted)
    assert [one.shape for one in read_images(tmp_path, 4).images] == [(3, 4, 4)] * 2
    assert len(read_images(tmp_path, limit=1).images) == 1


def test_a_folder_without_folders_is_one_class(tmp_path: Path) -> None:
    write(tmp_path / "x.png", 2, 3)
    (tmp_path / "notes.txt").write_text("no image")
    found = read_images(tmp_path)
    assert (found.classes, found.labels.tolist()) == ((tmp_path.name,), [0])


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="limit must be >= 1, got -1"):
        read_images(tmp_path, limit=-1)
    with pytest.raises(DataMissingError, match="does not exist"):
        read_images(tmp_path / "none")
    with pytest.raises(DataError, match="holds no images"):
        read_images(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad.png is not an image in a known format"):
        read_images(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        read_images(tmp_path / "bad.png")
    write(tmp_path / "sub" / "x.png", 2, 2)
    with pytest.raises(DataError, match=r"holds folders and images: 'sub', 'bad\.png'"):
        read_images(tmp_path)
    write(tmp_path / "long" / "x.png", 1, 4097)
    with pytest.raises(DataError, match=r"x\.png is 1 x 4097, more than 4096 on a side"):
        read_images(tmp_path / "long")
