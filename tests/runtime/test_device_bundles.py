"""Kernels that run side by side in one launch compute what they compute one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import InputError
from symgraph.lower.cuda import target
from symgraph.lower.plan import BundleStep, CheckStep
from symgraph.runtime import device_profile
from symgraph.runtime.calibrate import Peaks
from tests.backends.host_device import HostDevice
from tests.backends.host_libraries import HostLibrary, libraries
from tests.lower.cuda_host import COMPILER

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


def perceptron() -> tuple[sg.nn.Module, tuple[int, ...]]:
    net = sg.nn.Sequential(
        sg.nn.Dense(20, 32), sg.nn.Activation("relu"), sg.nn.Dense(32, 16),
        sg.nn.Activation("relu"), sg.nn.Dense(16, 5),
    )  # fmt: skip
    return net, (20,)


def convolutional() -> tuple[sg.nn.Module, tuple[int, ...]]:
    """AlexNet in small: groups, normalised responses, pooling, dropout."""
    net = sg.nn.Sequential(
        sg.nn.Conv2d(3, 16, 3, padding=1), sg.nn.Activation("relu"), sg.nn.LRN(),
        sg.nn.MaxPool2d(2, 2), sg.nn.Conv2d(16, 16, 3, padding=1, groups=2),
        sg.nn.Activation("relu"), sg.nn.Flatten(), sg.nn.Dense(16 * 16, 16),
        sg.nn.Activation("relu"), sg.nn.Dropout(0.5), sg.nn.Dense(16, 5),
    )  # fmt: skip
    return net, (3, 8, 8)


def sgd(weights: Any) -> sg.optim.Optimizer:
    return sg.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=1e-3)


def adam(weights: Any) -> sg.optim.Optimizer:
    return sg.optim.Adam(weights, lr=0.01)


def trained(
    host: HostDevice, model: Callable[[], Any], rule: Callable[[Any], Any], apart: bool
) -> tuple[list[bytes], int, Any]:
    """Train three steps; give all numbers, the launches of kernels in a step, and the function."""
    sg.seed(3)
    net, shape = model()
    batch = sg.dim("bundles_batch")
    x, y = sg.tensor("x", (batch, *shape)), sg.tensor("y", (batch,), "int32")
    loss = sg.nn.cross_entropy(net(x, train=True), y).mean()
    with pytest.MonkeyPatch.context() as patched, sg.config(capture=False):
        if apart:
            patched.setattr(target, "bundle", lambda plan, nominal: None)
        train = sg.function([x, y], loss, rule(net.parameters()).updates(loss), backend="cuda")
        found, rng = [], np.random.default_rng(5)
        for count in (6, 6, 3):
            before = host.launches
            images = rng.standard_normal((count, *shape)).astype(np.float32)
            found.append(train(images, rng.integers(0, 5, count).astype(np.int32)).tobytes())
            launches = host.launches - before
    return [*found, *(one.value.tobytes() for one in net.parameters())], launches, train


CASES = [
    pytest.param(perceptron, sgd, 15, 6, id="perceptron, SGD", marks=pytest.mark.full),
    pytest.param(perceptron, adam, 16, 6, id="perceptron, Adam", marks=pytest.mark.full),
    pytest.param(convolutional, adam, 25, 12, id="convolutions, Adam"),
    pytest.param(convolutional, sgd, 22, 12, id="convolutions, SGD", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("model", "rule", "before", "after"), CASES)
def test_every_bit_is_the_same_with_fewer_launches(
    host: HostDevice, model: Callable[[], Any], rule: Callable[[Any], Any], before: int, after: int
) -> None:
    host.libraries = libraries(HostLibrary())
    wanted, launches, _ = trained(host, model, rule, apart=True)
    for seed in (1, 2):  # other orders of blocks, and of threads in each
        host.seed = seed
        found, fewer, train = trained(host, model, rule, apart=False)
        assert found == wanted
    assert (launches, fewer) == (before, after)
    assert any(isinstance(one, BundleStep) for one in train._executor.plan.steps)


def test_a_check_beside_others_stops_every_write(host: HostDevice) -> None:
    """The check runs beside what nothing waits for, all updates beside each other."""
    x, y = sg.tensor("x", (4, 20)), sg.tensor("y", (4,), "int32")
    v, w = (sg.shared(np.full(s, 0.1, np.float32), "v") for s in ((20, 16), (16, 5)))
    loss = sg.nn.cross_entropy(sg.tanh(x @ v) @ w, y).mean()
    f = sg.function([x, y], [], {one: one - sg.grad(loss, one) for one in (v, w)}, backend="cuda")
    images, labels = np.eye(4, 20, dtype=np.float32), np.arange(4, dtype=np.int32)
    f(images, labels)
    bundles = [one for one in f._executor.plan.steps if isinstance(one, BundleStep)]
    inside = [[isinstance(part, CheckStep) for part in one.parts] for one in bundles]
    assert sum(map(sum, inside)) == 1
    before = [one.value for one in (v, w)]
    f(images, labels + 3)
    with pytest.raises(InputError, match="a step before this one"):
        f(images, labels)
    for one, old in zip((v, w), before):
        np.testing.assert_array_equal(one.value, old)
    f(images, labels)
    assert all((one.value != old).any() for one, old in zip((v, w), before))


def test_parts_of_nothing_have_no_blocks(host: HostDevice) -> None:
    n, k = sg.dim("bundles_n", min=0), sg.dim("bundles_k", min=0)
    x, y = sg.tensor("x", (n, 3)), sg.tensor("y", (k, 300))
    f = sg.function([x, y], [sg.exp(x), sg.softmax(y, axis=1)], backend="cuda")
    for first, second in ((0, 40), (9, 0), (9, 40), (0, 0)):
        one, other = np.ones((first, 3), np.float32), np.ones((second, 300), np.float32)
        before = host.launches
        found = f(one, other)
        assert host.launches - before == (first + second > 0)
        np.testing.assert_allclose(found[0], np.exp(one), rtol=1e-6)
        np.testing.assert_allclose(found[1], np.full((second, 300), 1 / 300), rtol=1e-6)


def test_a_profile_names_every_part(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = Peaks(1e9, 1e9, 1e9)
    monkeypatch.setattr(device_profile, "device_peaks", lambda device, precision: peaks)
    x, y = sg.tensor("x", (30,)), sg.tensor("y", (40,))
    f = sg.function([x, y], [sg.exp(x), sg.tanh(y)], backend="cuda")
    arrays = np.ones(30, np.float32), np.ones(40, np.float32)
    (row,) = f.profile(*arrays, repeat=1).rows
    assert sorted(row.name.split(", ")) == ["exp", "tanh"]
    assert row.bytes == 8 * (30 + 40)
