"""Tensors of PyTorch and arrays of JAX, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import DTypeError

torch = pytest.importorskip("torch", reason="the second opinion needs PyTorch")
jnp = pytest.importorskip("jax.numpy", reason="the second opinion needs JAX")
pytestmark = pytest.mark.torch

NUMBERS = np.array([[1.5, -2.0], [0.25, 4.0]], np.float32)


@pytest.mark.parametrize("make", [torch.from_numpy, jnp.asarray])
def test_functions_and_variables_take_them(make: Any) -> None:
    x = sg.matrix("x")
    f = sg.function([x], x * 2)
    found = f(make(NUMBERS))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, 2 * NUMBERS)
    np.testing.assert_array_equal(sg.shared(make(NUMBERS)).value, NUMBERS)
    np.testing.assert_array_equal(sg.jit(lambda a: a + 1)(make(NUMBERS)), NUMBERS + 1)


def test_dtypes_are_their_own() -> None:
    assert sg.shared(torch.ones(2, dtype=torch.float64)).dtype == "float64"
    assert sg.shared(torch.ones(2, dtype=torch.float16)).dtype == "float16"
    assert sg.shared(jnp.ones(2, jnp.bfloat16)).dtype == "bfloat16"


def test_a_tensor_with_a_gradient_is_refused() -> None:
    with pytest.raises(DTypeError, match="requires grad") as found:
        sg.shared(torch.ones(2, requires_grad=True))
    assert "detach" in found.value.fix
