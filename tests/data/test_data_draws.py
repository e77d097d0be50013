"""Draws against NumPy's own Philox generator, and their statistics."""

from __future__ import annotations

import numpy as np
import pytest

from symgraph.data import crop_draws, permutation
from symgraph.data.draws import CROP_STREAM, ORDER_STREAM, philox_blocks
from symgraph.errors import ArgumentError


def numpy_words(seed: int, epoch: int, index: int, stream: int, count: int = 4) -> np.ndarray:
    generator = np.random.Philox(
        key=np.array([seed, epoch], dtype=np.uint64),
        counter=np.array([index, 0, 0, stream], dtype=np.uint64),
    )
    return generator.random_raw(count)


@pytest.mark.parametrize("seed", [0, 1, 2**63 + 11, 2**64 - 1])
@pytest.mark.parametrize("epoch", [0, 3, 2**40])
def test_blocks_have_the_bits_of_numpys_philox(seed: int, epoch: int) -> None:
    indices = [0, 1, 2, 17, 2**31, 2**53 + 1, 2**63 - 1]
    blocks = philox_blocks(indices, seed, epoch, CROP_STREAM)
    for row, index in zip(blocks, indices):
        np.testing.assert_array_equal(row, numpy_words(seed, epoch, index, CROP_STREAM))


def test_permutation_sorts_numpys_raw_words() -> None:
    words = numpy_words(9, 4, 0, ORDER_STREAM, 1000).tolist()
    assert permutation(1000, 9, 4).tolist() == sorted(range(1000), key=words.__getitem__)


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_permutation_is_one(count: int) -> None:
    assert sorted(permutation(count, 1, 0).tolist()) == list(range(count))


def test_permutation_changes_with_seed_and_epoch() -> None:
    orders = {tuple(permutation(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_draws_cover_every_offset_evenly() -> None:
    top, left, mirror = crop_draws(np.arange(60_000), 1, 0, 30)
    for places in (top, left):
        counts = np.bincount(places, minlength=30)
        assert len(counts) == 30
        # chi-squared with 29 degrees of freedom is above 60 with probability 0.0006
        assert ((counts - 2000.0) ** 2 / 2000).sum() < 60
    assert abs(mirror.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.02


def test_draws_are_a_pure_function_of_the_index() -> None:
    whole = crop_draws(np.arange(100), 7, 2, 30)
    some = crop_draws([99, 3, 50], 7, 2, 30)
    for a, b in zip(whole, some):
        np.testing.assert_array_equal(a[[99, 3, 50]], b)


def test_draws_differ_between_epochs_and_seeds() -> None:
    first = crop_draws(np.arange(100), 1, 0, 30)[0]
    assert (first != crop_draws(np.arange(100), 1, 1, 30)[0]).sum() > 80
    assert (first != crop_draws(np.arange(100), 2, 0, 30)[0]).sum() > 80


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "1"])
def test_bad_seed(seed: object) -> None:
    with pytest.raises(ArgumentError, match="seed must"):
        permutation(3, seed, 0)  # type: ignore[arg-type]


def test_no_offset() -> None:
    with pytest.raises(ArgumentError, match="offsets must be at least 1, got 0"):
        crop_draws([1], 1, 0, 0)
