"""Crops and mirrors against the published order of work, one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph.data import Augment, centre_crop, crop_mirror
from symgraph.errors import ArgumentError, ArgumentTypeError


def published(image: np.ndarray, mean: np.ndarray, y: int, x: int, crop: int, flip: bool):
    """Subtract the mean image, then crop, then mirror, pixel by pixel where it matters."""
    whole = image.astype(np.float32) - mean
    out = np.zeros((3, crop, crop), dtype=np.float32)
    for row in range(crop):
        for column in range(crop):
            source = x + (crop - 1 - column if flip else column)
            out[:, row, column] = whole[:, y + row, source]
    return out


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_crop_mirror_is_the_published_one(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12) | st.sampled_from([8, 16, 24]))  # words of eight pixels
    crop = data.draw(st.integers(1, size))
    count = data.draw(st.integers(0, 4))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    images = random.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    mean = random.uniform(0, 255, (3, size, size)).astype(np.float32)
    top, left = random.integers(0, size - crop + 1, (2, count))
    mirror = random.random(count) < 0.5
    out = np.full((count, 3, crop, crop), np.nan, dtype=np.float32)
    result = crop_mirror(images, crop, top, left, mirror, mean=mean, out=out)
    assert result is out
    for k in range(count):
        expected = published(images[k], mean, top[k], left[k], crop, bool(mirror[k]))
        np.testing.assert_array_equal(result[k], expected)


def test_without_mean_and_from_a_strided_array() -> None:
    images = np.arange(2 * 3 * 8 * 8, dtype=np.uint8).reshape(2, 3, 8, 8)[:, :, ::-1, ::-1]
    result = crop_mirror(images, 5, [0, 3], [2, 1], [True, False])
    np.testing.assert_array_equal(result[0], images[0, :, 0:5, 2:7][:, :, ::-1])
    np.testing.assert_array_equal(result[1], images[1, :, 3:8, 1:6])
    assert result.dtype == np.float32


def test_centre_is_at_14_of_256() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 256, 256), dtype=np.uint8)
    np.testing.assert_array_equal(centre_crop(images, 227), images[:, :, 14:241, 14:241])
    np.testing.assert_array_equal(
        Augment(227, train=False)(images, [5, 6], 3), images[:, :, 14:241, 14:241]
    )


def test_augment_takes_each_images_own_place() -> None:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (6, 3, 40, 40), dtype=np.uint8)
    mean = random.uniform(0, 255, (3, 40, 40)).astype(np.float32)
    indices = np.array([900, 3, 77, 12, 2**40, 5])
    augment = Augment(33, seed=4)
    result = augment(images, indices, 2, mean=mean)
    for k, index in enumerate(indices):
        generator = np.random.Philox(
            key=np.array([4, 2], dtype=np.uint64),
            counter=np.array([index, 0, 0, 1], dtype=np.uint64),
        )
        words = [int(word) for word in generator.random_raw(3)]
        y, x = (words[0] >> 32) * 8 >> 32, (words[1] >> 32) * 8 >> 32
        expected = published(images[k], mean, y, x, 33, words[2] >= 2**63)
        np.testing.assert_array_equal(result[k], expected)


def test_mirror_can_be_switched_off() -> None:
    _, _, mirror = Augment(3, mirror=False).draws(np.arange(50), 0, 8)
    assert not mirror.any()
    _, _, mirror = Augment(3).draws(np.arange(50), 0, 8)
    assert mirror.any()


IMAGES = np.zeros((2, 3, 8, 8), dtype=np.uint8)
PLACES = ([0, 0], [0, 0], [False, False])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: crop_mirror(IMAGES, 9, *PLACES), "crop must lie in 1 .. 8, the image size, got 9"),
        (lambda: crop_mirror(IMAGES, 0, *PLACES), "crop must lie in 1 .. 8"),
        (lambda: crop_mirror(IMAGES[0], 4, *PLACES), r"shape \(n, 3, S, S\), got \(3, 8, 8\)"),
        (
            lambda: crop_mirror(IMAGES, 4, [5, 0], *PLACES[1:]),
            r"top must lie in 0 .. 4, got 0 .. 5",
        ),
        (lambda: crop_mirror(IMAGES, 4, [-1, 0], *PLACES[1:]), "top must lie in 0 .. 4, got -1"),
        (lambda: crop_mirror(IMAGES, 4, [0], *PLACES[1:]), r"top must have shape \(2,\)"),
        (lambda: crop_mirror(IMAGES, 4, *PLACES[:2], [True]), r"mirror must have shape \(2,\)"),
        (
            lambda: crop_mirror(IMAGES, 4, *PLACES, mean=np.zeros((3, 4, 4), np.float32)),
            r"mean must be float32 of shape \(3, 8, 8\), got float32 \(3, 4, 4\)",
        ),
        (
            lambda: crop_mirror(IMAGES, 4, *PLACES, out=np.zeros((2, 3, 4, 4))),
            r"out must be a writeable float32 array of shape \(2, 3, 4, 4\), got float64",
        ),
        (lambda: Augment(9)(IMAGES, [0, 1], 0), "crop must lie in 1 .. 8"),
        (lambda: Augment(9).draws([0], 0, 8), "crop must be at most the image size 8, got 9"),
        (lambda: Augment(0), "crop must be a positive integer, got 0"),
        (lambda: Augment(3, seed=-2), "seed must lie in"),
    ],
)
def test_errors(call, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()


def test_floats_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="images must be a uint8 array, got float32"):
        crop_mirror(IMAGES.astype(np.float32), 4, *PLACES)  # type: ignore[arg-type]
