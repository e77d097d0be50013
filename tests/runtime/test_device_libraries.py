"""Library calls on a device, on one that is this CPU with NumPy as its library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentTypeError, BackendError, InputError
from symgraph.lower.plan import CallStep
from tests.backends.host_device import HostDevice
from tests.backends.host_libraries import HostLibrary, libraries
from tests.lower.cuda_host import COMPILER

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


@pytest.fixture
def library(host: HostDevice) -> HostLibrary:
    own = HostLibrary()
    host.libraries = libraries(own)
    return own


def network() -> tuple[list[Any], Any, sg.nn.Module]:
    sg.seed(4)
    batch = sg.dim("library_batch")
    x, y = sg.tensor("x", (batch, 3, 12, 12)), sg.tensor("y", (batch,), "int32")
    net = sg.nn.Sequential(
        sg.nn.Conv2d(3, 16, 3, padding=1), sg.nn.Activation("relu"), sg.nn.MaxPool2d(2, 2),
        sg.nn.Conv2d(16, 16, 3, padding=1, groups=2), sg.nn.Activation("relu"),
        sg.nn.Flatten(), sg.nn.Dense(16 * 6 * 6, 16), sg.nn.Activation("relu"), sg.nn.Dense(16, 5),
    )  # fmt: skip
    return [x, y], sg.nn.cross_entropy(net(x, train=True), y).sum(), net


def batch_of(count: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(count)
    images = rng.standard_normal((count, 3, 12, 12)).astype(np.float32)
    return images, rng.integers(0, 5, count).astype(np.int32)


def training(backend: str, **options: Any) -> tuple[Any, sg.nn.Module]:
    inputs, loss, net = network()
    updates = sg.optim.SGD(net.parameters(), lr=0.01, momentum=0.9).updates(loss)
    return sg.function(inputs, loss, updates, backend=backend, **options), net


def test_training_is_that_of_the_reference(host: HostDevice, library: HostLibrary) -> None:
    there, own = training("cuda")
    here, wanted = training("reference")
    for count in (4, 3, 4):
        arrays = batch_of(count)
        host.calls = 0
        np.testing.assert_allclose(there(*arrays), here(*arrays), rtol=1e-5)
    for one, other in zip(own.parameters(), wanted.parameters()):
        np.testing.assert_allclose(one.value, other.value, rtol=1e-5, atol=1e-6)
    asked = [name for name, *_ in library.asked]
    assert len(asked) == host.calls * 2, "two sizes were planned"
    assert set(asked) == {"conv", "conv_input", "conv_weight", "matmul"}
    assert asked.count("conv") == 4
    assert asked.count("conv_input") == 2, "of the second convolution alone"


def test_channels_are_innermost_between_convolutions(
    host: HostDevice, library: HostLibrary
) -> None:
    there, _ = training("cuda")
    there(*batch_of(4))
    (second,) = [one for one in library.asked if one[0] == "conv" and one[1][0].dims[1] == 16]
    _, (image, filters), result, alignment, tf32 = second
    assert image.strides[1] == result.strides[1] == 1
    assert filters.strides == (72, 9, 3, 1)
    assert alignment == 256
    assert not tf32


def test_precisions_reach_the_library(host: HostDevice, library: HostLibrary) -> None:
    training("cuda", precision="tf32")[0](*batch_of(2))
    assert all(tf32 for *_, tf32 in library.asked)
    library.asked.clear()
    narrow, own = training("cuda", precision="bf16")
    here, wanted = training("reference", precision="bf16")
    arrays = batch_of(4)
    np.testing.assert_allclose(narrow(*arrays), here(*arrays), rtol=1e-3)
    for one, other in zip(own.parameters(), wanted.parameters()):
        np.testing.assert_allclose(one.value, other.value, rtol=2e-2, atol=2e-4)
    assert {name for name, *_ in library.asked} >= {"conv", "matmul_bias"}
    assert {one.dtype for _, arrays, *_ in library.asked for one in arrays[:2]} == {"bfloat16"}
    with pytest.raises(ArgumentTypeError, match="tf32 is one of NVIDIA GPUs"):
        training("reference", precision="tf32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_library_computes_a_relu_for_who_allows_it(
    host: HostDevice, library: HostLibrary, precision: str
) -> None:
    """It may lose NaN, which only rewrites that are "fast" may."""
    training("cuda", precision=precision)[0](*batch_of(2))
    assert "matmul_bias_relu" not in {name for name, *_ in library.asked}
    library.asked.clear()
    with sg.config(rewrites="fast"):
        there, own = training("cuda", precision=precision)
    here, wanted = training("reference", precision=precision)
    rtol, atol = (1e-5, 1e-6) if precision == "fp32" else (2e-2, 2e-4)
    for count in (4, 3):
        arrays = batch_of(count)
        np.testing.assert_allclose(there(*arrays), here(*arrays), rtol=1e-3)
    for one, other in zip(own.parameters(), wanted.parameters()):
        np.testing.assert_allclose(one.value, other.value, rtol=rtol, atol=atol)
    asked = [name for name, *_ in library.asked]
    assert asked.count("matmul_bias_relu") == 2, "the hidden layer's, at two sizes"
    (value,) = [one.call.value for one in there._executor.plan.steps
                if isinstance(one, CallStep) and one.name == "matmul_bias_relu"]  # fmt: skip
    assert value.dtype == ("float32" if precision == "fp32" else "bfloat16")


def test_an_empty_batch_asks_nobody(host: HostDevice, library: HostLibrary) -> None:
    x = sg.tensor("x", (sg.dim("library_rows", min=0), 32))
    w = sg.shared(np.ones((32, 16), np.float32))
    f = sg.function([x], x @ w, backend="cuda")
    assert f(np.zeros((0, 32), np.float32)).shape == (0, 16)
    assert (library.asked, host.calls) == ([], 0)
    assert f(np.ones((2, 32), np.float32)).tolist() == [[32.0] * 16] * 2


def test_views_are_read_where_they_lie(host: HostDevice, library: HostLibrary) -> None:
    x = sg.tensor("x", (8, 40))
    w = sg.shared(np.arange(12.0, dtype=np.float32).reshape(3, 4))
    f = sg.function([x], x[:, 5:9] @ w.T, backend="cuda")
    array = np.random.default_rng(0).standard_normal((8, 40)).astype(np.float32)
    np.testing.assert_allclose(f(array), array[:, 5:9] @ w.value.T, rtol=1e-5)
    ((_, (rows, columns), _, alignment, _),) = library.asked
    assert (rows.strides, columns.strides) == ((40, 1), (1, 4))
    assert alignment == 4, "the fifth column begins at byte 20"
    assert host.launches == 0


def test_what_a_library_refuses_at_bind_is_said(
    host: HostDevice, library: HostLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise BackendError("conv: cuDNN has no engine for this convolution.")

    monkeypatch.setattr(library, "prepare", refuse)
    there, net = training("cuda")
    before = [one.value for one in net.parameters()]
    with pytest.raises(BackendError, match="no engine"):
        there(*batch_of(2))
    for one, old in zip(net.parameters(), before):
        np.testing.assert_array_equal(one.value, old)


def test_what_is_an_image_here_and_filters_there(host: HostDevice, library: HostLibrary) -> None:
    x, z = sg.tensor("x", (2, 4, 9, 9)), sg.tensor("z", (3, 4, 3, 3))
    w = sg.tensor("w", (5, 4, 2, 2))
    outputs = [sg.conv2d(z, w), sg.conv2d(x, z)]
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(one.shape).astype(np.float32) for one in (x, z, w)]
    found = sg.function([x, z, w], outputs, backend="cuda")(*arrays)
    wanted = sg.function([x, z, w], outputs, backend="reference")(*arrays)
    for one, other in zip(found, wanted):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# -- new values of variables that a library computes -----------------------------------------------


def gradients(backend: str, *, checked: bool) -> tuple[Any, list[sg.Shared]]:
    """Give a function that writes the gradients of a layer into variables, and these.

    Where labels are checked, an output is left out so that nobody waits for it.
    """
    x = sg.tensor("x", (sg.dim("rows_of_gradients"), 20))
    y = sg.tensor("y", (x.shape[0],), "int32")
    w = sg.shared(np.linspace(-1, 1, 100, dtype=np.float32).reshape(20, 5), "w")
    b = sg.shared(np.zeros(5, np.float32), "b")
    z = x @ w + b
    loss = sg.cross_entropy(z, y).mean() if checked else (z * z).mean()
    kept = [sg.shared(np.ones_like(one.value), f"gradient of {one.label}") for one in (w, b)]
    found = dict(zip(kept, sg.grad(loss, [w, b])))
    given = [x, y] if checked else [x]
    return sg.function(given, None, found, backend=backend), kept


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "unchecked"])
def test_gradients_of_a_library_are_written_without_a_wait(
    host: HostDevice, library: HostLibrary, checked: bool
) -> None:
    (there, own), (here, wanted) = (
        gradients(one, checked=checked) for one in ("cuda", "reference")
    )
    random = np.random.default_rng(1)
    labels = [np.arange(6, dtype=np.int32) % 5] if checked else []
    for number in range(4):
        arrays = [random.standard_normal((6, 20)).astype(np.float32), *labels]
        downloads, copies = host.downloads, host.copies
        there(*arrays)
        here(*arrays)
        assert host.downloads == downloads
        assert host.copies == copies
        assert host.replays == number, "the first is run step by step"
        for one, other in zip(own, wanted):
            np.testing.assert_allclose(one.value, other.value, rtol=1e-5, atol=1e-6)
    plan = there._executor.plan
    assert set(plan.in_place) == set(own)
    calls = [one for step in plan.steps if isinstance(step, CallStep) for one in step.writes]
    assert (plan.in_place[own[0]] in calls) == (not checked), "a kernel can look at a mark"
    if checked:
        before = [one.value for one in own]
        there(arrays[0], labels[0] + 9)
        with pytest.raises(InputError, match=r"a step before this one(.|\n)*cross_entropy"):
            there(*arrays)
        for one, old in zip(own, before):
            np.testing.assert_array_equal(one.value, old)
