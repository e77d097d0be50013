"""Dropout in both forms: share and size of survivors, and one mask forwards and backwards."""

from __future__ import annotations

import math

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError
from symgraph.nn import Dropout

COUNT = 40_000


def ones() -> np.ndarray:
    return np.ones((4, COUNT // 4), np.float32)


def declared() -> sg.Value:
    return sg.tensor("x", (sg.dim("B"), COUNT // 4), "float32")


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("inverted", [True, False])
def test_share_and_size_of_survivors(rate: float, inverted: bool) -> None:
    sg.seed(3)
    x = declared()
    found = Dropout(rate, inverted=inverted)(x, train=True).eval({x: ones()})
    kept = found != 0
    sigma = math.sqrt(rate * (1 - rate) / COUNT)
    assert abs(kept.mean() - (1 - rate)) < 5 * sigma
    np.testing.assert_allclose(found[kept], 1 / (1 - rate) if inverted else 1.0, rtol=1e-6)


def test_the_mean_is_kept_by_the_form_that_promises_it() -> None:
    sg.seed(3)
    x = declared()
    limit = 5 * math.sqrt(0.25 / COUNT)
    assert abs(Dropout(0.5)(x, train=True).eval({x: ones()}).mean() - 1) < 2 * limit
    plain = Dropout(0.5, inverted=False)
    assert (
        abs(plain(x, train=True).eval({x: ones()}).mean() - plain(x).eval({x: ones()}).mean())
        < limit
    )


def test_evaluation_has_no_randomness() -> None:
    x = declared()
    feed = np.random.default_rng(0).normal(size=ones().shape).astype(np.float32)
    assert Dropout(0.3)(x) is x
    before = sg.random.default_stream().state()
    found = sg.function([x], Dropout(0.25, inverted=False)(x))(feed)
    np.testing.assert_allclose(found, feed * np.float32(0.75), rtol=1e-6)
    assert sg.random.default_stream().state() == before


def test_rate_zero_changes_nothing() -> None:
    x = declared()
    for inverted in (True, False):
        layer = Dropout(0.0, inverted=inverted)
        assert layer(x, train=True) is x
        assert layer(x) is x


@pytest.mark.parametrize("inverted", [True, False])
def test_gradient_mask_is_the_forward_mask_in_every_step(inverted: bool) -> None:
    sg.seed(9)
    x = declared()
    y = Dropout(0.5, inverted=inverted)(x, train=True)
    step = sg.function([x], [y, sg.grad(y.sum(), x)])
    masks = []
    for _ in range(3):
        found, gradient = step(ones())
        assert (found == gradient).all()  # y = m x and x = 1
        masks.append(found != 0)
    assert (masks[0] != masks[1]).mean() == pytest.approx(0.5, abs=0.02)
    assert (masks[1] != masks[2]).mean() == pytest.approx(0.5, abs=0.02)


def test_two_layers_have_masks_of_their_own() -> None:
    sg.seed(1)
    x = declared()
    layers = [Dropout(0.5)(x, train=True), Dropout(0.5)(x, train=True)]
    first, second = sg.function([x], layers)(ones())
    assert (first != second).mean() == pytest.approx(0.5, abs=0.02)


def test_the_same_seed_gives_the_same_masks_and_another_one_others() -> None:
    def masks(seed: int) -> np.ndarray:
        sg.seed(seed)
        x = declared()
        step = sg.function([x], Dropout(0.5)(x, train=True))
        return np.stack([step(ones()) for _ in range(2)])

    assert (masks(5) == masks(5)).all()
    assert (masks(5) != masks(6)).mean() == pytest.approx(0.5, abs=0.02)


def test_rows_on_another_axis_have_their_masks_however_they_are_divided() -> None:
    """Rows 3 to 5 alone, by the stream's offset, are zeroed as among all eight."""

    def masked(rows: int, first: int) -> np.ndarray:
        sg.seed(3)
        sg.random.default_stream().offset = first
        x = sg.tensor("x", (7, sg.dim("B"), 9), "float32")
        return sg.function([x], Dropout(0.5)(x, train=True, rows=1))(np.ones((7, rows, 9), "f4"))

    whole = masked(8, 0)
    assert (masked(3, 3) == whole[:, 3:6]).all()
    assert (whole[:, 0] != whole[:, 1]).any()
    assert 0.3 < (whole == 0).mean() < 0.7


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ArgumentError, match=r"Dropout: rate must be in \[0, 1\)"):
        Dropout(rate)
