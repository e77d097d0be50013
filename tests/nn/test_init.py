"""Initialisers: their statistics, their fans, and what the numbers depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import symgraph as sg
from symgraph.errors import ArgumentError
from symgraph.nn import init

LEVEL = 1e-6  # a right sampler fails once in a million; the seed is fixed anyway


def draw(initialiser: init.Initialiser, *shape: int, seed: int = 3) -> np.ndarray:
    return initialiser(shape, np.random.default_rng(seed))


def test_constants() -> None:
    assert (draw(init.constant(0.1), 2, 3) == np.full((2, 3), 0.1)).all()
    assert not draw(init.ZEROS, 4).any()
    assert (draw(init.ONES, 4) == 1).all()


def test_normal_is_normal() -> None:
    found = draw(init.normal(0.02, mean=1.5), 100, 200).ravel()
    assert stats.kstest(found, stats.norm(1.5, 0.02).cdf).pvalue > LEVEL
    assert found.mean() == pytest.approx(1.5, abs=5 * 0.02 / math.sqrt(found.size))


def test_uniform_is_uniform() -> None:
    found = draw(init.uniform(-0.5, 1.5), 100, 200).ravel()
    assert stats.kstest(found, stats.uniform(-0.5, 2.0).cdf).pvalue > LEVEL


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), (1, 1)),
        ((7,), (7, 7)),
        ((30, 50), (30, 50)),  # a dense weight is (in, out)
        ((64, 16, 3, 5), (16 * 15, 64 * 15)),  # a kernel is (out, in, *window)
        ((8, 4, 3), (12, 24)),
    ],
)
def test_fans(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert init.fans(shape) == expected


@pytest.mark.parametrize("shape", [(300, 100), (64, 32, 3, 3)])
def test_glorot_limits_and_variance(shape: tuple[int, ...]) -> None:
    fan_in, fan_out = init.fans(shape)
    limit = 2 * math.sqrt(6 / (fan_in + fan_out))
    found = draw(init.glorot(gain=2), *shape).ravel()
    assert stats.kstest(found, stats.uniform(-limit, 2 * limit).cdf).pvalue > LEVEL
    assert found.var() == pytest.approx(4 * 2 / (fan_in + fan_out), rel=0.03)


@pytest.mark.parametrize("shape", [(300, 100), (64, 32, 3, 3)])
def test_he_variance_is_two_over_fan_in(shape: tuple[int, ...]) -> None:
    std = math.sqrt(2 / init.fans(shape)[0])
    found = draw(init.he(), *shape).ravel()
    assert stats.kstest(found, stats.norm(0, std).cdf).pvalue > LEVEL


def test_he_keeps_the_second_moment_through_relu_layers() -> None:
    x = np.random.default_rng(0).normal(size=(500, 256))
    first = (x**2).mean()
    for seed in range(6):
        x = np.maximum(x, 0) @ draw(init.he(), 256, 256, seed=seed)
    assert (x**2).mean() == pytest.approx(first, rel=0.35)


@pytest.mark.parametrize("shape", [(20, 20), (30, 10), (10, 30), (16, 4, 3, 3)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    found = draw(init.orthogonal(gain=3), *shape).reshape(shape[0], -1)
    small = min(found.shape)
    product = found @ found.T if found.shape[0] == small else found.T @ found
    np.testing.assert_allclose(product, 9 * np.eye(small), atol=1e-12)


def test_the_same_seed_gives_the_same_network_and_another_one_another() -> None:
    def numbers(seed: int) -> np.ndarray:
        sg.seed(seed)
        net = sg.nn.Sequential(sg.nn.Dense(10, 20), sg.nn.Dense(20, 5))
        return np.concatenate([variable.value.ravel() for variable in net.parameters()])

    assert (numbers(4) == numbers(4)).all()
    assert (numbers(4) != numbers(5)).sum() > 200


def test_parameters_are_independent_of_each_other() -> None:
    sg.seed(1)
    module = sg.nn.Module()
    a, b = (module.parameter("w", (5000,), init.normal(1)).value for _ in range(2))
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(5000)


def test_a_parameter_does_not_depend_on_the_size_of_those_before() -> None:
    def last(width: int) -> np.ndarray:
        sg.seed(2)
        module = sg.nn.Module()
        module.parameter("first", (width,), init.normal(1))
        return module.parameter("second", (50,), init.normal(1)).value

    assert (last(10) == last(999)).all()


def test_weights_do_not_depend_on_dropout_steps_taken() -> None:
    sg.seed(2)
    first = sg.nn.Dense(3, 3).weight.value
    sg.seed(2)
    x = sg.tensor("x", (4,), "float32")
    y = sg.nn.Dropout(0.5)(x, train=True)
    del y
    sg.seed(2)
    assert (sg.nn.Dense(3, 3).weight.value == first).all()


def test_errors() -> None:
    with pytest.raises(ArgumentError, match=r"normal: std must be >= 0, got -1"):
        init.normal(-1)
    with pytest.raises(ArgumentError, match=r"orthogonal: needs at least two axes, got shape \(3,"):
        draw(init.orthogonal(), 3)
