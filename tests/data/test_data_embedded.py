"""The digits that ship with scikit-learn, enlarged, against exact fractions."""

from __future__ import annotations

import pickle
import sys
from fractions import Fraction

import numpy as np
import pytest

from symgraph.data import Dataset, digits
from symgraph.data.embedded import _load, enlarge
from symgraph.errors import ArgumentError, DataError

load_digits = pytest.importorskip("sklearn.datasets").load_digits


def small_images() -> np.ndarray:
    return np.floor(load_digits().images * 255 / 16 + 0.5).astype(np.uint8)


def slow_pixel(image: np.ndarray, size: int, row: int, column: int) -> int:
    """Interpolate one pixel in rational arithmetic: centres aligned, edges repeated."""

    def at(k: int) -> list[tuple[int, Fraction]]:
        place = Fraction(2 * k + 1, 2) * 8 / size - Fraction(1, 2)
        place = min(max(place, Fraction(0)), Fraction(7))
        low = int(place)
        return [(low, 1 - (place - low)), (min(low + 1, 7), place - low)]

    value = sum(
        (int(image[y, x]) * a * b for y, a in at(row) for x, b in at(column)), start=Fraction(0)
    )
    return int(value + Fraction(1, 2))


@pytest.mark.parametrize("size", [1, 5, 8, 17, 64, 227, 256, 1024])
def test_enlarged_pixels_are_exact(size: int) -> None:
    image = small_images()[12]
    large = enlarge(image[None], size)[0]
    random = np.random.default_rng(size)
    for _ in range(150):
        row, column = random.integers(0, size, 2)
        assert large[row, column] == slow_pixel(image, size, int(row), int(column))


def test_same_size_is_the_digit_itself() -> None:
    np.testing.assert_array_equal(enlarge(small_images()[:40], 8), small_images()[:40])


def test_extremes_do_not_overflow() -> None:
    white = np.full((3, 8, 8), 255, dtype=np.uint8)
    assert (enlarge(white, 1024) == 255).all()


def test_the_split_is_fixed_stratified_and_complete() -> None:
    train, validation = digits(8), digits(8, "validation")
    assert isinstance(train, Dataset)
    assert (len(train), len(validation)) == (1437, 360)
    images, labels = train.read(range(1437))
    held_images, held_labels = validation.read(range(360))
    assert np.bincount(held_labels).tolist() == [36] * 10
    found = sorted(
        (int(y), x[0].tobytes())
        for x, y in zip(np.concatenate([images, held_images]), [*labels, *held_labels])
    )
    target = load_digits().target
    assert found == sorted((int(y), x.tobytes()) for x, y in zip(small_images(), target))
    assert (images == images[:, :1]).all()
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    assert np.count_nonzero(np.diff(labels)) > 1000  # shuffled


def test_pixels_do_not_depend_on_the_company() -> None:
    dataset = digits(100)
    together, _ = dataset.read([5, 900, 3, 77] * 9)
    for place, index in enumerate([5, 900, 3, 77]):
        np.testing.assert_array_equal(together[place], dataset.read([index])[0][0])


def test_mean_is_that_of_the_training_images() -> None:
    dataset = digits(20, "validation")
    images, _ = digits(20).read(range(1437))
    expected = (images.astype(np.float64).sum(axis=0) / 1437).astype(np.float32)
    np.testing.assert_array_equal(dataset.mean_image, expected)
    assert dataset.image_size == 20
    assert dataset.classes == list("0123456789")


def test_pickling() -> None:
    copy = pickle.loads(pickle.dumps(digits(16, "validation")))
    np.testing.assert_array_equal(copy.read([7])[0], digits(16, "validation").read([7])[0])
    assert repr(copy) == "Digits(validation: 360 images of 3 x 16 x 16)"


def test_errors() -> None:
    with pytest.raises(ArgumentError, match="size must be at most 1024, got 1025"):
        digits(1025)
    with pytest.raises(ArgumentError, match="split must be train or validation, got 'val'"):
        digits(8, "val")
    with pytest.raises(ArgumentError, match=r"indices must lie in 0 .. 359, got 360"):
        digits(8, "validation").read([360])


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    _load.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"(?s)scikit-learn.*fix: pip install symgraph\[models\]"):
        digits(8)
