"""Complex numbers in the language: dtypes, refusals, gradients, and compiled steps around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import (
    ArgumentError,
    BackendError,
    DTypeError,
    GradError,
    InputError,
    ShapeError,
)
from symgraph.graph.dtypes import is_float
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import tensor
from symgraph.graph.node import make
from symgraph.graph.registry import OPS, F
from symgraph.io import load_checkpoint, save_checkpoint
from symgraph.lower.program import build as program_of
from tests.ops.registry_cases import CASES, NAMES, build

Z = np.array([1 + 2j, -0.5j, 3.0], np.complex64)


def z(dtype: str = "complex64") -> sg.Value:
    return sg.tensor("z", (3,), dtype)


# -- dtypes ----------------------------------------------------------------------------------------


def test_numbers_and_lists_become_complex() -> None:
    assert sg.constant(1j).dtype == "complex64"
    assert sg.constant([1.0, 2j]).dtype == "complex64"
    assert sg.constant(np.array([1j])).dtype == "complex128"
    assert sg.shared([1j], "w").dtype == "complex64"
    assert sg.tensor("x", (), complex).dtype == "complex64"
    x = sg.vector("x", "float64")
    assert (x * 1j).dtype == "complex128"
    assert (sg.ivector("n") + 1j).dtype == "complex64"
    assert (z() * 2.5).dtype == "complex64"
    assert (z() + sg.dim("B")).dtype == "complex64"


def test_a_complex_number_becomes_no_real_one() -> None:
    with pytest.raises(DTypeError, match="cast: no complex64 becomes float32"):
        z().cast("float32")
    with pytest.raises(DTypeError, match="is float32, it was given complex128"):
        sg.constant([1j], "float32")
    x = sg.vector("x")
    f = sg.function([x], x + 1)
    with pytest.raises(InputError, match="`x` is float32, it was given complex64"):
        f(Z)


@pytest.mark.parametrize("name", [n for n in NAMES if n in OPS and not OPS[n].takes_complex])
def test_what_has_no_complex_numbers_refuses_them(name: str) -> None:
    """Every operation that does not say that it takes complex numbers raises while building."""
    for case in CASES:
        if case.name != name:
            continue
        for node in build(case).nodes():
            floats = any(is_float(x.dtype) for x in node.inputs)
            swapped = [
                tensor(None, x.shape, "complex64" if is_float(x.dtype) or not floats else x.dtype)
                for x in node.inputs
            ]
            if swapped:
                with pytest.raises((DTypeError, ShapeError)):  # a state of random numbers: of shape
                    make(node.op, *swapped)


def test_order_needs_real_numbers() -> None:
    for build_one in (
        lambda: z() < 1,
        lambda: sg.max(z()),
        lambda: sg.argmax(z()),
        lambda: z() % 2,
    ):
        with pytest.raises(DTypeError, match=r"takes no complex numbers|not complex64"):
            build_one()


# -- gradients -------------------------------------------------------------------------------------


def test_the_gradient_points_where_the_loss_rises() -> None:
    """It is dL/dx + i dL/dy, as in PyTorch: z - rate * gradient goes down."""
    x = z()
    slope = sg.grad(sg.sum(sg.abs(x - 1j) ** 2), x)
    np.testing.assert_allclose(slope.eval(z=Z), 2 * (Z - 1j), rtol=1e-6)
    w = sg.shared(Z, "w")
    loss = sg.sum(sg.real((w - 1j) * sg.conj(w - 1j)))
    for optimizer in (sg.optim.SGD([w], lr=0.1), sg.optim.Adam([w], lr=0.1, clip_norm=9.0)):
        w.value = Z
        step = sg.function([], loss, updates=optimizer.updates(loss))
        losses = [float(step()) for _ in range(20)]
        assert losses[-1] < losses[0] / 2


def test_a_complex_loss_is_refused() -> None:
    with pytest.raises(GradError, match="grad: a complex loss has no least value"):
        sg.grad(sg.sum(z()), z())


def test_the_gradient_of_real_numbers_behind_complex_ones_is_real() -> None:
    x = sg.vector("x")
    slope = sg.grad(sg.sum(sg.abs(sg.fft.fft(x)) ** 2), x)
    assert slope.dtype == "float32"
    np.testing.assert_allclose(slope.eval(x=[1.0, 2.0, 3.0]), [6.0, 12.0, 18.0], rtol=1e-6)


# -- compiled --------------------------------------------------------------------------------------


def test_a_step_with_complex_state() -> None:
    w, x = sg.shared(Z, "w"), z()
    f = sg.function([x], [x, w, sg.real(w * x), sg.F.barrier(x, w)], updates={w: w * x + 1})
    found = f(Z)
    np.testing.assert_array_equal(found[0], Z)
    np.testing.assert_array_equal(found[1], Z)
    np.testing.assert_allclose(found[2], (Z * Z).real)
    np.testing.assert_array_equal(found[3], Z)
    np.testing.assert_allclose(w.value, Z * Z + 1)
    g = sg.function([x], x + 0, updates={w: x})
    g(2 * Z)
    np.testing.assert_array_equal(w.value, 2 * Z)


def test_what_is_real_stays_compiled() -> None:
    x = sg.vector("x")
    power = sg.log(1 + sg.abs(sg.fft.rfft(sg.exp(x) * 2)) ** 2)
    f = sg.function([x], power)
    array = np.linspace(0, 1, 9, dtype=np.float32)
    wanted = np.log(1 + np.abs(np.fft.rfft(2 * np.exp(array))) ** 2)
    np.testing.assert_allclose(f(array), wanted, rtol=1e-5)


def test_a_backend_without_numpy_says_so() -> None:
    x = z()
    with pytest.raises(BackendError, match="multiply: no loops express it"):
        program_of(Graph([x], [x * x]))


def test_rules_leave_complex_numbers_alone() -> None:
    x = z("complex128")
    y = sg.sqrt(x * x) + sg.exp(sg.log(x)) + sg.abs(x) * sg.abs(x)
    array = np.array([-1 + 1j, 2 - 3j, -4.0])
    wanted = np.sqrt(array * array) + np.exp(np.log(array)) + np.abs(array) ** 2
    np.testing.assert_allclose(sg.function([x], y)(array), wanted, rtol=1e-12)


def test_a_checkpoint_holds_them(tmp_path: Any) -> None:
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, {"w": Z}, {})
    assert np.array_equal(load_checkpoint(path).tensors["w"], Z)


# -- transforms ------------------------------------------------------------------------------------


def test_transforms_of_symbolic_numbers_of_points() -> None:
    size = sg.dim("N")
    x = sg.tensor("x", (size,))
    y = sg.fft.irfft(sg.fft.rfft(x), size)
    f = sg.function([x], [y, sg.fft.fft(x, 8)])
    for number in (5, 8, 11):
        array = np.arange(number, dtype=np.float32)
        back, padded = f(array)
        np.testing.assert_allclose(back, array, atol=1e-5)
        np.testing.assert_allclose(padded, np.fft.fft(array, 8), atol=1e-4)


def test_numpys_transforms_build_graph() -> None:
    x = sg.vector("x")
    assert np.fft.rfft(x) is sg.fft.rfft(x)
    with pytest.raises(ArgumentError, match="rfftn: needs at least one axis"):
        sg.fft.rfftn(x, axes=())


def test_shifts_undo_each_other() -> None:
    x = sg.tensor("x", (5, 4))
    array = np.arange(20, dtype=np.float32).reshape(5, 4)
    assert np.array_equal(sg.fft.ifftshift(sg.fft.fftshift(x)).eval(x=array), array)
    assert F.fftshift is sg.fft.fftshift
