"""Ranks and factors: published formulas, the tail of singular values, counted numbers and FLOPs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compression import (
    break_even,
    factorised,
    flops,
    parameters,
    ranks_of_error,
    ranks_of_ratio,
    sketch,
)
from symgraph.compression.ranks import full_ranks, losses
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.nn import Conv2d, Dense, LowRankConv2d, LowRankDense

SHAPES = [(40, 24), (24, 40), (12, 20, 1, 1), (12, 20, 3, 3), (20, 12, 5, 2), (4, 40, 3, 1)]


def product(weights: tuple[np.ndarray[Any, Any], ...]) -> np.ndarray[Any, Any]:
    """Multiply factors out."""
    if weights[0].ndim == 2:
        return weights[0] @ weights[1]
    if len(weights) == 2:
        return np.tensordot(weights[1][:, :, 0, 0], weights[0], axes=1)
    inner = np.tensordot(weights[2][:, :, 0, 0], weights[1], axes=1)  # o a i j
    return np.moveaxis(np.tensordot(inner, weights[0][:, :, 0, 0], axes=(1, 0)), 3, 1)


# -- formulas --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "ratio", "wanted"),
    [
        ((768, 768), 2, (192,)),
        ((768, 3072), 2, (307,)),
        ((512, 2048), 2, (204,)),
        ((2048, 1000), 2, (335,)),
        ((64, 64, 3, 3), 2, (38, 38)),
        ((128, 128, 3, 3), 2, (77, 77)),
        ((256, 256, 3, 3), 2, (154, 154)),
        ((512, 512, 3, 3), 2, (309, 309)),
    ],
)
def test_ranks_as_published(shape: tuple[int, ...], ratio: float, wanted: tuple[int, ...]) -> None:
    assert ranks_of_ratio(shape, ratio) == wanted


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ratio", [1.0, 1.7, 3.0])
def test_a_ratio_is_kept_and_nearly_used(shape: tuple[int, ...], ratio: float) -> None:
    ranks = ranks_of_ratio(shape, ratio)
    assert parameters(shape, ranks) <= parameters(shape) / ratio
    more = [rank + 1 for rank in ranks]
    full = full_ranks(shape)
    if all(rank < most for rank, most in zip(ranks, full)):
        assert parameters(shape, more) > parameters(shape) / ratio


def test_beta_is_the_ratio_of_ranks() -> None:
    first, second = ranks_of_ratio((256, 128, 3, 3), 2, beta=1.0)
    assert first == second
    first, second = ranks_of_ratio((256, 128, 3, 3), 2)
    assert abs(second - 2 * first) <= 2


def test_break_even_is_the_last_rank_that_saves_numbers() -> None:
    C, S = sg.dim("C"), sg.dim("S")
    (rank,) = break_even((C, S))
    for sizes in ((768, 3072), (17, 33), (1, 1)):
        number = sg.dims.evaluate(rank, dict(zip((C, S), sizes)))
        assert parameters(sizes, (number,)) <= parameters(sizes) < parameters(sizes, (number + 1,))
    first, second = break_even((512, 512, 3, 3))
    assert parameters((512, 512, 3, 3), (first, second)) <= 512 * 512 * 9
    assert parameters((512, 512, 3, 3), (first + 1, second + 1)) > 512 * 512 * 9


@pytest.mark.parametrize("bias", [False, True])
def test_formulas_are_what_is_counted(bias: bool) -> None:
    """With symbols for ranks and batch, and the pixels that a stride leaves."""
    B, r, q = sg.dim("B"), sg.dim("r"), sg.dim("q")
    options: dict[str, Any] = {} if bias else {"bias": None}
    dense = Dense(20, 12, **options)
    x = sg.tensor("x", (B, 20))
    added = 12 * B if bias else 0
    assert sg.dims.equal(sg.cost(sketch(dense, x, (r,))).flops, flops((20, 12), (r,), B) + added)
    assert sg.dims.equal(sg.cost(dense(x)).flops, flops((20, 12), (), B) + added)
    conv = Conv2d(6, 10, 3, stride=2, padding=1, **options)
    x = sg.tensor("x", (B, 6, 8, 8))
    counted = sg.cost(sketch(conv, x, (r, q))).flops
    added = 10 * 16 * B if bias else 0
    assert sg.dims.equal(counted, flops((10, 6, 3, 3), (r, q), 64 * B, 16 * B) + added)


@pytest.mark.parametrize("shape", SHAPES)
def test_layers_have_as_many_numbers_and_flops_as_the_formulas(shape: tuple[int, ...]) -> None:
    ranks = ranks_of_ratio(shape, 2)
    made: LowRankDense | LowRankConv2d
    if len(shape) == 2:
        made = LowRankDense(*shape, *ranks, bias=None)
        before = after = 7
        x = sg.tensor("x", (7, shape[0]))
    else:
        made = LowRankConv2d(shape[1], shape[0], (shape[2], shape[3]), ranks, bias=None)
        x = sg.tensor("x", (2, shape[1], 9, 9))
        before = after = 2 * (10 - shape[2]) * (10 - shape[3])
        if len(ranks) == 2:
            before = 2 * 81
    assert made.count() == parameters(shape, ranks)
    assert sg.cost(made(x)).flops == flops(shape, ranks, before, after)


# -- factors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_of_full_rank_nothing_is_lost(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    weight = rng.normal(size=shape)
    found = factorised(weight, full_ranks(shape))
    np.testing.assert_allclose(product(found.weights), weight, atol=1e-12)
    assert found.error < 1e-7


@pytest.mark.parametrize("shape", [(40, 24), (12, 20, 1, 1)])
def test_the_error_of_a_matrix_is_the_tail(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    weight = rng.normal(size=shape)
    values = np.linalg.svd(weight.reshape(shape[:2]), compute_uv=False)
    for rank in (1, 5, 11):
        found = factorised(weight, (rank,))
        lost = np.linalg.norm(product(found.weights) - weight)
        tail = np.sqrt((values[rank:] ** 2).sum())
        np.testing.assert_allclose(lost, tail, rtol=1e-12)
        np.testing.assert_allclose(found.error, tail / np.linalg.norm(weight), rtol=1e-12)
        sizes = [np.linalg.norm(one) for one in found.weights]
        np.testing.assert_allclose(sizes[0], sizes[1])  # roots of the values on both sides


def test_the_error_of_filters_is_what_was_lost_and_within_the_tails(
    rng: np.random.Generator,
) -> None:
    weight = rng.normal(size=(12, 20, 3, 3))
    whole = np.linalg.norm(weight)
    by = [np.moveaxis(weight, 1, 0).reshape(20, -1), weight.reshape(12, -1)]
    tails = [(np.linalg.svd(rows, compute_uv=False)[r:] ** 2).sum() for rows, r in zip(by, (7, 5))]
    found = factorised(weight, (7, 5))
    lost = np.linalg.norm(product(found.weights) - weight)
    np.testing.assert_allclose(found.error, lost / whole, rtol=1e-9)
    assert max(tails) <= lost**2 <= sum(tails)
    assert [one.shape for one in found.weights] == [(7, 20, 1, 1), (5, 7, 3, 3), (12, 5, 1, 1)]
    assert factorised(weight, (7, 5), rounds=3).error < found.error


def test_filters_of_low_rank_are_found(rng: np.random.Generator) -> None:
    parts = (rng.normal(size=(3, 20, 1, 1)), rng.normal(size=(4, 3, 3, 3)),
             rng.normal(size=(12, 4, 1, 1)))  # fmt: skip
    weight = product(parts)
    assert ranks_of_error(weight, 0) == (3, 4)
    np.testing.assert_allclose(product(factorised(weight, (3, 4)).weights), weight, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_error_is_kept(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    weight = rng.normal(size=shape)
    sizes = []
    for error in (0.0, 0.2, 0.6):
        ranks = ranks_of_error(weight, error)
        assert factorised(weight, ranks).error <= error + 1e-7
        sizes.append(sum(ranks))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[0] or min(full_ranks(shape)) < 5
    if len(ranks) == 1:  # the least that does
        assert ranks == (1,) or factorised(weight, (ranks[0] - 1,)).error > 0.6


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_are_squares_of_errors_or_more(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    weight = rng.normal(size=shape)
    several = [ranks_of_ratio(shape, ratio) for ratio in (1.5, 2, 6)] + [full_ranks(shape)]
    for lost, ranks in zip(losses(weight, several), several, strict=True):
        error = factorised(weight, ranks).error ** 2
        if len(ranks) == 1:
            np.testing.assert_allclose(lost, error, atol=1e-12)
        else:
            assert error - 1e-12 <= lost <= 2 * error + 1e-12
    assert losses(np.zeros((3, 4)), [(1,)]) == [0.0]


def test_zeros_have_rank_one() -> None:
    zeros = np.zeros((5, 6))
    assert ranks_of_error(zeros, 0.1) == (1,)
    found = factorised(zeros, (1,))
    assert found.error == 0
    assert not product(found.weights).any()
    assert found.weights[0].any()  # or neither would have a gradient


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: factorised(np.ones((4, 6)), (0,)), "must lie in 1 .. 4, got 0"),
        (lambda: factorised(np.ones((4, 6)), (5,)), "must lie in 1 .. 4, got 5"),
        (lambda: factorised(np.ones((4, 6, 3, 3)), (5,)), "has two ranks, got 1"),
        (lambda: factorised(np.ones((4, 6)), (1, 1)), "has one rank, got 2"),
        (lambda: factorised(np.full((4, 6), np.nan), (1,)), "holds NaN or infinity"),
        (lambda: factorised(np.ones((4, 6)), (2.5,)), "a rank must be an int, got float"),
        (lambda: factorised(np.ones((4, 6, 3, 3)), (2, 2), rounds=-1), "rounds must be >= 0"),
        (lambda: ranks_of_error(np.full((4, 6), np.nan), 0.1), "holds NaN or infinity"),
        (lambda: losses(np.full((4, 6), np.inf), [(1,)]), "holds NaN or infinity"),
        (lambda: losses(np.ones((4, 6)), [(1,), (9,)]), "must lie in 1 .. 4, got 9"),
        (lambda: ranks_of_ratio((4, 4, 3, 3), 2, beta=-1.0), "beta must be above 0, got -1.0"),
        (lambda: ranks_of_ratio((4, 4, 3, 3), 2, beta=0.0), "beta must be above 0, got 0.0"),
        (lambda: parameters((3, 4, 5)), "neither a matrix nor filters"),
        (lambda: ranks_of_ratio((4, 6), 0.5), "the ratio must be >= 1, got 0.5"),
        (lambda: ranks_of_ratio((4, 6), np.nan), "the ratio must be >= 1, got nan"),
        (lambda: ranks_of_ratio((4, sg.dim("C")), 2), "need numbers to choose ranks"),
        (lambda: ranks_of_error(np.ones((4, 6)), 1.0), r"must lie in \[0, 1\), got 1.0"),
        (lambda: sketch(Dense(4, 6), sg.matrix("x"), (1, 2)), "other than 2 ranks"),
    ],
)
def test_wrong_ranks(call: Any, text: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=text):
        call()
