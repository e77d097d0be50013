"""Detected patterns: never too little, for every operation, and not too much where it is easy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.autodiff.sparsity import depends
from symgraph.errors import ShapeError
from symgraph.graph.dtypes import is_float
from symgraph.graph.interpret import interpret
from symgraph.graph.measured import measured_sizes
from symgraph.graph.registry import F
from symgraph.graph.walk import depends_on, topological
from tests.ops.registry_cases import build
from tests.ops.test_registry_transforms import DIFFERENTIABLE, cases_of, connected, floats

MOST = 400  # elements of an operand and of a result


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_no_derivative_is_missed(name: str) -> None:
    for case in [case for case in cases_of(name) if case.checked][:4]:
        built = build(case, "float64", symbolic=False)
        if measured_sizes(built.outputs):
            continue  # what decides how many there are has no fixed pattern
        for slot in connected(built):
            x = built.inputs[slot]
            for y in floats(built.outputs):
                if not (is_float(x.dtype) and is_float(y.dtype)):
                    continue  # of complex numbers there is no one matrix
                if int(x.size) > MOST or int(y.size) > MOST or x not in depends_on([y], [x]):  # type: ignore[call-overload]
                    continue
                (array,) = interpret([F.jacobian(y, x, "reverse", missing="zero")], built.feeds)
                found = depends(y, x)
                missed = (array.reshape(found.shape) != 0) & ~found
                assert not missed.any(), f"{case.id}: operand {slot}: {int(missed.sum())} missed"


def test_patterns_are_as_sparse_as_they_can_be() -> None:
    x = sg.tensor("x", (6,), "float64")
    unit = np.eye(6, dtype=bool)
    assert np.array_equal(depends(F.tanh(x) * 2, x), unit)
    assert np.array_equal(depends(x[::-1], x), unit[::-1])
    assert np.array_equal(depends(F.reshape(x, (2, 3)).sum(axis=1), x), np.kron(np.eye(2), [1] * 3))
    assert not depends(F.stop_gradient(x) + F.floor(x) * 0, x)[0, 1:].any()
    line = F.conv1d(F.reshape(x, (1, 1, 6)), sg.constant(np.ones((1, 1, 3))), padding=1)
    band = np.eye(6) + np.eye(6, k=1) + np.eye(6, k=-1) > 0
    assert np.array_equal(depends(line, x), band)
    assert depends(F.sum(x), x).all()
    own = sg.custom_vjp(lambda x: x * 2)
    own.defvjp(lambda x: (own(x), None), lambda _, g: (F.broadcast_to(F.sum(g), g.shape),))
    assert depends(own(x), x).all()  # its derivative is its own
    assert np.array_equal(depends(sg.checkpoint(F.tanh)(x), x), unit)
    chosen = F.where(x > 0, x, F.zeros_like(x))  # the condition has no derivative
    assert np.array_equal(depends(chosen, x), unit)
    assert depends(F.take(x, F.argmax(x)), x).all()  # numbers decide


def test_a_jacobian_finds_its_own_pattern() -> None:
    size = 30
    x = sg.tensor("x", (size,), "float64")
    y = F.sin(x[1:]) * x[:-1] - F.exp(x[1:] * 0.5)
    packed = sg.jacobian(y, x, sparsity="detect")
    assert packed.shape == (2 * (size - 1),)
    assert max(int(v.tensor.size) for v in topological([packed]) if v.inputs) <= 2 * size  # type: ignore[call-overload]
    whole = sg.jacobian(y, x, sparsity="detect", dense=True)
    array = np.linspace(-1, 1, size)
    found: Any = sg.function([x], [whole, sg.jacobian(y, x)])(array)
    np.testing.assert_allclose(found[0], found[1])
    n = sg.tensor("n", (sg.dim("n"),))
    with pytest.raises(ShapeError, match="sizes that are numbers"):
        sg.jacobian(n * 2, n, sparsity="detect")
