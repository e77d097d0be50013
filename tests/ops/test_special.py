"""Special functions: how exact they are, and gradients that the generated tests do not ask for.

The bounds are what was measured on denser points, rounded up: units are epsilons of the dtype,
relative to the result, or to 1 where the result is smaller (functions with zeros).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from symgraph.errors import GradError
from symgraph.graph.registry import F
from tests.ops.running import run, run_grad

RNG = np.random.default_rng(3)
NORMAL = RNG.uniform(-6, 6, 60)


def _log_gamma(x: Any) -> Any:
    return mpmath.log(abs(mpmath.gamma(x)))


def _lower(a: Any, x: Any) -> Any:
    return mpmath.gammainc(a, 0, x, regularized=True)


def _upper(a: Any, x: Any) -> Any:
    return mpmath.gammainc(a, x, mpmath.inf, regularized=True)


def _by_shape(a: Any, x: Any) -> Any:
    return mpmath.diff(lambda each: _lower(each, x), a)


def _log_beta(x: Any, y: Any) -> Any:
    return mpmath.log(mpmath.beta(x, y))


def spread(low: float, high: float, count: int = 60) -> Any:
    """Numbers evenly spread on a logarithmic scale."""
    return np.exp(RNG.uniform(np.log(low), np.log(high), count))


SHAPES = spread(0.05, 5000)
AROUND = SHAPES * np.exp(RNG.normal(0, 1, 60) / np.sqrt(np.maximum(SHAPES, 1)))

# fmt: off
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...], float]] = {
    "gamma":      (F.gamma, mpmath.gamma, (spread(0.01, 34),), 5),
    "gamma < 0":  (F.gamma, mpmath.gamma, (-spread(0.01, 20),), 8),
    "lgamma":     (F.lgamma, _log_gamma, (spread(1e-8, 1e5),), 5),
    "lgamma < 0": (F.lgamma, _log_gamma, (-spread(0.01, 20),), 12),
    "digamma":    (F.digamma, mpmath.digamma, (spread(1e-4, 1e4),), 8),
    "trigamma":   (lambda x: F.polygamma(1, x), lambda x: mpmath.polygamma(1, x),
                   (spread(0.01, 1e3),), 6),
    "polygamma":  (lambda x: F.polygamma(4, x), lambda x: mpmath.polygamma(4, x),
                   (spread(0.1, 50),), 12),
    "betaln":     (F.betaln, _log_beta, (spread(0.01, 1e4), spread(0.01, 1e4)), 16),
    "erfinv":     (F.erfinv, mpmath.erfinv, (RNG.uniform(-1, 1, 60),), 5),
    "ndtr":       (F.ndtr, mpmath.ncdf, (NORMAL,), 60),
    "log_ndtr":   (F.log_ndtr, lambda x: mpmath.log(mpmath.ncdf(x)), (6 * NORMAL,), 8),
    "i0":         (F.i0, lambda x: mpmath.besseli(0, x), (6 * NORMAL,), 8),
    "i1":         (F.i1, lambda x: mpmath.besseli(1, x), (6 * NORMAL,), 10),
    "j0":         (F.j0, lambda x: mpmath.besselj(0, x), (6 * NORMAL,), 4),
    "j1":         (F.j1, lambda x: mpmath.besselj(1, x), (6 * NORMAL,), 4),
    "gammainc":   (F.gammainc, _lower, (SHAPES, AROUND), 12),
    "gammaincc":  (F.gammaincc, _upper, (SHAPES, AROUND), 12),
    "gammainc_slope": (F.gammainc_slope, _by_shape, (SHAPES, AROUND), 40),
}
# fmt: on


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_errors_are_bounded(name: str, dtype: str) -> None:
    call, oracle, operands, bound = CASES[name]
    arrays = [np.asarray(each, dtype) for each in operands]
    found = run(call, *arrays)
    assert found.dtype == dtype
    with mpmath.workdps(40):
        for value, *numbers in zip(found, *arrays):
            wanted = oracle(*(mpmath.mpf(float(number)) for number in numbers))
            error = float(abs(mpmath.mpf(float(value)) - wanted) / max(abs(wanted), 1))
            assert error <= bound * np.finfo(dtype).eps, (name, numbers, value, wanted)


def test_tails_that_vanish_are_exact_relative_to_themselves() -> None:
    tails = spread(1e-300, 1e-3)
    found = run(F.ndtri, tails)
    np.testing.assert_allclose(run(F.log_ndtr, found), np.log(tails), rtol=1e-14)
    np.testing.assert_allclose(run(F.erfcinv, 2 * tails), -found / np.sqrt(2), rtol=1e-15)


def test_gradients_of_the_incomplete_gamma_functions() -> None:
    x, a = RNG.uniform(0.5, 6, 8), RNG.uniform(0.5, 6, 8)
    step = 1e-6
    for function in (F.gammainc, F.gammaincc):
        for which in (0, 1):
            operands, moved = [a, x], np.eye(2)[which]

            def call(one: Any, other: Any, function: Any = function, which: int = which) -> Any:
                return function(one, other) if which == 0 else function(other, one)

            slope = run_grad(call, operands[which], operands[1 - which])
            above, below = (
                run(function, a + moved[0] * each, x + moved[1] * each) for each in (step, -step)
            )
            np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-7, atol=1e-9)


def test_the_second_gradient_by_the_shape_is_refused() -> None:
    with pytest.raises(GradError, match="by the first operand is not known"):
        run_grad(F.gammainc, np.ones(1), np.ones(1), order=2)


def test_gradients_at_removable_singularities() -> None:
    zero = np.zeros(1)
    assert run_grad(F.sinc, zero)[0] == 0
    assert run_grad(F.sinc, zero, order=2)[0] == pytest.approx(-(np.pi**2) / 3)
    assert run_grad(F.exprel, zero)[0] == 0.5
    assert run_grad(F.exprel, zero, order=2)[0] == pytest.approx(1 / 3)
    assert run_grad(F.j1, zero)[0] == pytest.approx(0.5)
    assert run_grad(F.i1, zero)[0] == pytest.approx(0.5)
    assert run_grad(F.xlogy, zero, np.zeros(1))[0] == 0
