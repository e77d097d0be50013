"""`check_gradient`: right gradients pass, wrong ones are found, and whose they are is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.debug.gradients import GradientDifference
from symgraph.errors import ArgumentError, ArgumentTypeError, GradError
from symgraph.graph.elementwise import scalar_op
from symgraph.graph.registry import OPS


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    before = dict(OPS)
    yield
    OPS.clear()
    OPS.update(before)


def test_right_gradients_pass_at_every_order(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((4, 3)), rng.standard_normal((3, 3))

    def function(x: Any, w: Any) -> Any:
        return [sg.softmax(x @ w, axis=-1), sg.linalg.inv(w @ w.T + sg.eye(3, dtype="float64"))]

    assert sg.check_gradient(function, x, w, order=3) is None


def test_loops_integers_complex_numbers_and_single_precision(rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 3)).astype(np.float32)
    rows = np.array([0, 3, 3])
    assert sg.check_gradient(lambda x, i: sg.tanh(sg.take(x, i, axis=0)), x, rows, order=2) is None
    last = lambda x: sg.scan(lambda row, h: sg.tanh(row * h), x, [sg.ones(3, "float64")])[0]
    assert sg.check_gradient(last, x) is None
    z = rng.standard_normal(6) + 1j * rng.standard_normal(6)
    assert sg.check_gradient(lambda z: sg.abs(sg.fft.fft(z)).sum(), z) is None
    assert sg.check_gradient(lambda x: sg.sum(x), np.zeros((0, 3))) is None


def test_a_wrong_gradient_is_found_and_its_operation_named(rng: np.random.Generator) -> None:
    half = scalar_op("half", lambda m, x: m.exp(-x * x), d=lambda m, x, y: -x * y, doc="exp(-x^2).")
    x = rng.uniform(0.5, 1.5, (4, 3))
    found = sg.check_gradient(lambda y, x: sg.sin(half(x)) * y, np.ones(3), x)
    assert isinstance(found, GradientDifference)
    assert found.argument == 1
    assert found.gradient == pytest.approx(found.difference / 2)
    assert found.blamed is not None
    assert found.blamed.op.name == "half"
    text = str(found)
    assert "argument 1 in a random direction" in text
    assert "the gradient of half() is not" in text
    assert "test_gradients.py" in text


def test_an_error_in_one_element_is_found() -> None:
    @sg.custom_vjp
    def careless(x: Any) -> Any:
        return x * x

    def backward(x: Any, g: Any) -> Any:
        return (2 * x * g * sg.constant([1.0, 1.0, 1.0 + 1e-5], "float64"),)

    careless.defvjp(lambda x: (careless(x), x), backward)
    found = sg.check_gradient(careless, [1.0, 2.0, 3.0])
    assert found is not None
    assert found.index in (None, (2,))
    assert sg.check_gradient(careless, [1.0, 2.0, 3.0], rtol=1e-3) is None


def test_a_second_gradient_is_checked_by_itself() -> None:
    @sg.custom_vjp
    def cube(x: Any) -> Any:
        return x * x * x

    def backward(x: Any, g: Any) -> Any:  # 3 x^2, of which a part counts as a constant
        return (3 * x * sg.stop_gradient(x) * g,)

    cube.defvjp(lambda x: (cube(x), x), backward)
    assert sg.check_gradient(cube, [0.7, 1.3]) is None
    found = sg.check_gradient(cube, [0.7, 1.3], order=2)
    assert found is not None
    assert found.order == 2
    assert found.gradient == pytest.approx(found.difference / 2)
    assert found.blamed is not None
    assert found.blamed.op.name == "stop_gradient"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((lambda x: x, [1, 2]), {}, ArgumentTypeError, "no argument is of floats"),
        ((lambda x: x > 0, [1.0]), {}, GradError, "gives no value of floats"),
        ((3, [1.0]), {}, ArgumentTypeError, "takes a function, got int"),
        ((lambda x: x, [1.0]), {"order": 4}, ArgumentError, "order must lie in 1 .. 3, got 4"),
    ],
)
def test_mistakes(arguments: Any, options: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        sg.check_gradient(*arguments, **options)
