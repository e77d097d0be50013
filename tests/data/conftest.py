"""Folders of real image files, made with PIL in a temporary place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from symgraph.data import prepare

MakeSource = Callable[..., Path]


def code(label: int, number: int) -> tuple[int, int, int]:
    """Return a colour that tells which image of which class this is."""
    return 20 * label + 7, 3 * number + 5, 101


@pytest.fixture
def make_source(tmp_path: Path) -> MakeSource:
    """Return a function that writes classes of one-coloured PNG files (see `code`)."""
    Image = pytest.importorskip("PIL.Image")

    def make(name: str = "source", counts: tuple[int, ...] = (12, 9, 15), side: int = 6) -> Path:
        root = tmp_path / name
        for label, count in enumerate(counts):
            folder = root / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (side, side), code(label, number))
                image.save(folder / f"{number:03d}.png")
        return root

    return make


@pytest.fixture
def noise_source(tmp_path: Path) -> Path:
    """Return a source of 23 noisy JPEG files of several sizes in two classes."""
    Image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(5)
    root = tmp_path / "noise"
    for label, count in (("cat", 11), ("dog", 12)):
        (root / label).mkdir(parents=True)
        for number in range(count):
            shape = (int(random.integers(20, 60)), int(random.integers(20, 60)), 3)
            pixels = random.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.jpg")
    return root


@pytest.fixture
def prepared(make_source: MakeSource, tmp_path: Path) -> Path:
    """Return a data set of 30 training and 6 validation images in shards of 8."""
    source = make_source(counts=(12, 12, 12))
    prepare(source, tmp_path / "set", 4, shard_images=8, validation=1 / 6, jobs=2)
    return tmp_path / "set"


def leftovers(folder: Path) -> list[str]:
    """Return the names of hidden folders that an unfinished run left behind."""
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


@pytest.fixture
def hidden() -> Callable[[Path], list[str]]:
    """Return `leftovers`."""
    return leftovers


@pytest.fixture
def colour() -> Callable[[int, int], tuple[int, int, int]]:
    """Return `code`."""
    return code
