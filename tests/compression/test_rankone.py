"""Products of vectors near to filters, against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from symgraph.compression.rankone import rank_one
from symgraph.errors import ArgumentError


def test_products_are_found(rng: np.random.Generator) -> None:
    vectors = [rng.normal(size=(5, size)) for size in (4, 3, 2)]
    dense = np.einsum("oc,oi,oj->ocij", *vectors)
    found = rank_one(dense)
    np.testing.assert_allclose(found.dense(), dense, atol=1e-12)
    assert found.error < 1e-12
    for one in range(5):  # of equal length, so that one rate of learning suits all three
        lengths = [np.linalg.norm(part[one]) for part in found[:3]]
        np.testing.assert_allclose(lengths, lengths[0])


def test_of_two_axes_it_is_the_singular_value_decomposition(rng: np.random.Generator) -> None:
    dense = rng.normal(size=(6, 7, 4, 1))
    values = np.linalg.svd(dense[..., 0], compute_uv=False)
    best = np.sqrt((values[:, 1:] ** 2).sum() / (values**2).sum())
    assert rank_one(dense).error == pytest.approx(best, rel=1e-6)


def test_the_error_is_that_of_the_product(rng: np.random.Generator) -> None:
    dense = rng.normal(size=(3, 4, 5, 5)).astype(np.float32)
    found = rank_one(dense)
    off = np.linalg.norm(dense - found.dense()) / np.linalg.norm(dense.astype(float))
    assert found.error == pytest.approx(off)
    assert 0 < off < 1


def test_nothing_is_a_product_of_nothing() -> None:
    dense = np.zeros((2, 3, 3, 3))
    dense[1, 0, 1, 2] = 5.0
    found = rank_one(dense)
    np.testing.assert_allclose(found.dense(), dense, rtol=1e-12)
    assert not found.dense()[0].any()
    assert rank_one(np.zeros((2, 3, 3, 3))).error == 0
    assert rank_one(np.zeros((0, 3, 3, 3))).dense().shape == (0, 3, 3, 3)


@pytest.mark.parametrize("bad", [np.zeros((2, 3, 3)), np.full((1, 1, 1, 1), np.nan)])
def test_what_are_no_filters_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="rank_one: filters are"):
        rank_one(bad)
