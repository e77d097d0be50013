"""Laws of random numbers: distributions by tests with a fixed seed, equal bits, wrong arguments.

A test of Kolmogorov and Smirnov on 20,000 numbers, and one of chi-square on counts, each refused
below p = 0.001: a sampler that is off by 4 % of its quartiles' distance fails it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value, make
from symgraph.graph.walk import topological
from symgraph.ops.random import Stream
from tests.lower.cuda_host import COMPILER, Host, planned, run

R = sg.random
COUNT = 20_000
LEAST = 0.001

Draw = Callable[..., Value]

# fmt: off
CONTINUOUS: dict[str, tuple[Draw, Any]] = {
    "exponential":   (lambda **o: R.exponential((COUNT,), 2.0, **o), scipy.stats.expon(scale=2)),
    "gumbel":        (lambda **o: R.gumbel((COUNT,), 1.0, 0.5, **o), scipy.stats.gumbel_r(1, 0.5)),
    "laplace":       (lambda **o: R.laplace((COUNT,), -1.0, 2.0, **o), scipy.stats.laplace(-1, 2)),
    "logistic":      (lambda **o: R.logistic((COUNT,), **o), scipy.stats.logistic),
    "cauchy":        (lambda **o: R.cauchy((COUNT,), 0.5, 3.0, **o), scipy.stats.cauchy(0.5, 3)),
    "truncated":     (lambda **o: R.truncated_normal((COUNT,), -1.0, 0.25, **o),
                      scipy.stats.truncnorm(-1, 0.25)),
    "tail":          (lambda **o: R.truncated_normal((COUNT,), 7.0, np.inf, 1.0, 2.0, **o),
                      scipy.stats.truncnorm(7, np.inf, loc=1, scale=2)),
    "gamma":         (lambda **o: R.gamma(2.5, 3.0, (COUNT,), **o),
                      scipy.stats.gamma(2.5, scale=3)),
    "gamma 1":       (lambda **o: R.gamma(1.0, shape=(COUNT,), **o), scipy.stats.gamma(1)),
    "gamma small":   (lambda **o: R.gamma(0.3, shape=(COUNT,), **o), scipy.stats.gamma(0.3)),
    "gamma large":   (lambda **o: R.gamma(300.0, shape=(COUNT,), **o), scipy.stats.gamma(300)),
    "beta":          (lambda **o: R.beta(0.5, 2.0, (COUNT,), **o), scipy.stats.beta(0.5, 2)),
    "dirichlet":     (lambda **o: R.dirichlet([0.5, 1.5, 3.0], (COUNT,), **o)[:, 1],
                      scipy.stats.beta(1.5, 3.5)),
}
DISCRETE: dict[str, tuple[Draw, Any]] = {
    "poisson":       (lambda **o: R.poisson(3.5, (COUNT,), **o), scipy.stats.poisson(3.5)),
    "poisson 10":    (lambda **o: R.poisson(10.0, (COUNT,), **o), scipy.stats.poisson(10)),
    "poisson large": (lambda **o: R.poisson(150.0, (COUNT,), **o), scipy.stats.poisson(150)),
    "binomial":      (lambda **o: R.binomial(11, 0.3, (COUNT,), **o), scipy.stats.binom(11, 0.3)),
    "multinomial":   (lambda **o: R.multinomial(7, [0.2, 0.5, 0.3], (COUNT,), **o)[:, 1],
                      scipy.stats.binom(7, 0.5)),
    "integers":      (lambda **o: R.integers(-4, 9, (COUNT,), **o), scipy.stats.randint(-4, 9)),
    "choice":        (lambda **o: R.choice(4, (COUNT,), p=[0.1, 0.2, 0.3, 0.4], **o),
                      scipy.stats.rv_discrete(values=(range(4), [0.1, 0.2, 0.3, 0.4]))),
    "categorical":   (lambda **o: R.categorical(np.log([0.1, 0.6, 0.3]), (COUNT,), **o),
                      scipy.stats.rv_discrete(values=(range(3), [0.1, 0.6, 0.3]))),
}
# fmt: on


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_numbers_follow_their_law(name: str, dtype: str) -> None:
    draw, chosen = CONTINUOUS[name]
    found = draw(dtype=dtype, stream=Stream(5)).eval()
    assert found.dtype == dtype
    assert np.isfinite(found).all()
    assert scipy.stats.kstest(found.astype(np.float64), chosen.cdf).pvalue > LEAST
    spread = np.diff(chosen.ppf([0.25, 0.75]))[0]
    assert scipy.stats.kstest(found + 0.04 * spread, chosen.cdf).pvalue < LEAST


def chi_square(found: np.ndarray, chosen: Any) -> float:
    """Give the probability of counts that are as far from their law, rare numbers together."""
    low, high = int(chosen.ppf(0.001)), int(chosen.ppf(0.999))
    inner = [np.count_nonzero(found == k) for k in range(low + 1, high)]
    observed = [np.count_nonzero(found <= low), *inner, np.count_nonzero(found >= high)]
    expected = [chosen.cdf(low), *chosen.pmf(range(low + 1, high)), chosen.sf(high - 1)]
    return float(scipy.stats.chisquare(observed, np.array(expected) * len(found)).pvalue)


@pytest.mark.parametrize("name", DISCRETE)
def test_counts_follow_their_law(name: str) -> None:
    draw, chosen = DISCRETE[name]
    found = draw(stream=Stream(6)).eval()
    assert found.dtype == np.int64
    assert chi_square(found, chosen) > LEAST
    found[: COUNT // 10] = np.median(found)
    assert chi_square(found, chosen) < LEAST


def test_all_orders_are_equally_likely() -> None:
    stream = Stream(2)
    order = sg.function([], R.permutation(4, stream=stream))
    found = np.array([order() for _ in range(600)])
    assert (np.sort(found, axis=1) == np.arange(4)).all()
    codes = found @ np.array([64, 16, 4, 1])
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > LEAST


def test_orders_of_values_and_of_symbolic_sizes() -> None:
    rows = sg.dim("rows")
    x = sg.tensor("x", (rows, 2), "int32")
    feed = np.arange(12, dtype=np.int32).reshape(6, 2)
    found = R.permutation(x, stream=Stream(3)).eval({x: feed})
    assert sorted(found.tolist()) == feed.tolist()
    assert found.tolist() != feed.tolist()
    columns = R.shuffle(x, axis=1, stream=Stream(4)).eval({x: feed})
    assert sorted(columns.sum(axis=1).tolist()) == sorted(feed.sum(axis=1).tolist())


def test_members_come_once_without_replacement() -> None:
    stream = Stream(9)
    p = [0.5, 0.0, 0.3, 0.2]
    draw = sg.function([], R.choice(4, (3,), replace=False, p=p, stream=stream))
    found = np.array([draw() for _ in range(500)])
    assert (np.sort(found, axis=1) == [0, 2, 3]).all()
    firsts = [np.count_nonzero(found[:, 0] == k) for k in (0, 2, 3)]
    assert scipy.stats.chisquare(firsts, np.array([0.5, 0.3, 0.2]) * 500).pvalue > LEAST
    members = R.choice(sg.constant([[1.0], [2.0]]), (5,), stream=Stream(1)).eval()
    assert set(members.ravel()) == {1.0, 2.0}


def test_parameters_may_be_values_of_the_graph() -> None:
    k = sg.tensor("k", (3,), "float64")
    feed = {k: np.array([0.5, 20.0, -1.0])}
    many = R.gamma(k, shape=(4000, 3), dtype="float64", stream=Stream(3)).eval(feed)
    np.testing.assert_allclose(many[:, :2].mean(axis=0), [0.5, 20.0], rtol=0.05)
    assert np.isnan(many[:, 2]).all()
    counts = R.poisson(k, (4000, 3), stream=Stream(4)).eval(feed)
    np.testing.assert_allclose(counts[:, :2].mean(axis=0), [0.5, 20.0], rtol=0.1)
    assert (counts[:, 2] == -1).all()
    chance = sg.tensor("p", (2,))
    found = R.binomial(50, chance, (2000, 2), stream=Stream(5)).eval({chance: [0.1, 0.9]})
    np.testing.assert_allclose(found.mean(axis=0), [5, 45], rtol=0.05)
    tiny = R.beta(1e-4, 1e-4, (500,), stream=Stream(6)).eval()
    assert np.isfinite(tiny).all()
    assert 0.4 < tiny.mean() < 0.6


def bits_of(draw: Draw, backend: str) -> bytes:
    value = draw(stream=Stream(11))
    if backend == "interpreter":
        return np.ascontiguousarray(interpret([value], {}, {})[0]).tobytes()
    with sg.config(backend=backend):
        return np.ascontiguousarray(value.eval()).tobytes()


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")
@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_compiled_numbers_have_the_bits_of_the_reference(name: str) -> None:
    draw, _ = {**CONTINUOUS, **DISCRETE}[name]
    assert bits_of(draw, "cpu") == bits_of(draw, "interpreter")


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
def test_cuda_kernels_give_the_bits_of_the_reference(tmp_path: Path) -> None:
    """One law of each kind of sampler, with the state of the stream fed."""
    stream = Stream(11)
    names = ("cauchy", "tail", "gamma small", "dirichlet", "poisson 10", "integers", "choice")
    drawn = [{**CONTINUOUS, **DISCRETE}[name][0](stream=stream)[:500] for name in names]
    state = tensor("state", (3,), "uint64")
    same: dict[Value, Value] = {}
    for value in topological(drawn):
        operands = [same[each] for each in value.inputs]
        if value is stream.variable:
            same[value] = state
        elif value.op.name == "attach":  # kernels have no updates
            same[value] = operands[0]
        else:
            same[value] = make(value.op, *operands) if operands else value
    outputs = [same[value] for value in drawn]
    feeds = {state: np.array([11, 3, 0], np.uint64)}
    plan = planned(Graph([state], outputs), {})
    found = run(plan, Host(plan.kernels, tmp_path), feeds, {}, 1, 0)
    for name, one, other in zip(names, found, interpret(outputs, feeds, {}), strict=True):
        assert one.tobytes() == np.ascontiguousarray(other).tobytes(), name


def test_rows_do_not_depend_on_how_a_batch_is_split() -> None:
    def draw(stream: Stream, rows: int) -> list[Value]:
        return [
            R.gamma(0.7, shape=(rows, 3), by_row=True, stream=stream),
            R.poisson(20.0, (rows, 2), by_row=True, stream=stream),
            R.integers(100, shape=(rows,), by_row=True, stream=stream),
        ]

    whole = [value.eval() for value in draw(Stream(3), 6)]
    later = Stream(3)
    later.offset = 4
    for found, one in zip(draw(later, 2), whole, strict=True):
        np.testing.assert_array_equal(found.eval(), one[4:])


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: R.exponential((2,), dtype="int32"), DTypeError, "must be a float"),
    (lambda: R.truncated_normal((2,), "a"), ArgumentTypeError, "low must be a number"),
    (lambda: R.truncated_normal((2,), 1, 1), ArgumentError, "low must be below high"),
    (lambda: R.truncated_normal((2,), 20, 30), ArgumentError, "lies less than"),
    (lambda: R.integers(3, 3), ArgumentError, "low must be below high"),
    (lambda: R.integers(300, dtype="uint8"), ArgumentError, "uint8 does not hold all"),
    (lambda: R.integers(3, dtype="float32"), DTypeError, "must be an integer"),
    (lambda: R.gamma(0.0), ArgumentError, "concentration must be > 0"),
    (lambda: R.gamma("a"), ArgumentTypeError, "concentration must be a number"),
    (lambda: R.beta(1.0, -1.0), ArgumentError, "b must be > 0"),
    (lambda: R.dirichlet([1.0, 0.0]), ArgumentError, "all concentrations must be > 0"),
    (lambda: R.dirichlet(2.0), ArgumentError, "last axis of concentration"),
    (lambda: R.poisson(-1.0), ArgumentError, "mean must be > 0"),
    (lambda: R.binomial(-1), ArgumentError, "n must be >= 0"),
    (lambda: R.binomial(2, 1.5), ArgumentError, "p must be from 0 to 1"),
    (lambda: R.multinomial(2, [0.5, 0.6]), ArgumentError, "add up to 1.1, not to 1"),
    (lambda: R.multinomial(-2, [0.5, 0.5]), ArgumentError, "n must be >= 0"),
    (lambda: R.choice(3, p=[0.5, 0.5]), ArgumentError, "one probability for each: 2 != 3"),
    (lambda: R.choice(3, p=sg.constant([1.0])), ArgumentError, "not a value of the graph"),
    (lambda: R.choice(3, (4,), replace=False), ArgumentError, "4 different members"),
    (lambda: R.choice(sg.tensor("x", (sg.dim("B"),))), ArgumentTypeError, "number of members"),
    (lambda: R.choice(0), ArgumentError, "nothing to choose from"),
    (lambda: R.choice(sg.constant(1.0)), ArgumentError, "a scalar has no members"),
    (lambda: R.categorical([0.0, 1.0], axis=1), ArgumentError, "axis 1 does not exist"),
    (lambda: R.permutation(-1), ArgumentError, "the size must be >= 0"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(number: int) -> None:
    call, error, text = WRONG[number]
    with pytest.raises(error, match=text):
        call()
