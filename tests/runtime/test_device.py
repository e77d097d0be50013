"""The executor of devices, on a device that is this CPU: everything but CuPy itself."""

from __future__ import annotations

import gc
import signal
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cuda.status import status
from symgraph.errors import ArgumentTypeError, DeviceError
from symgraph.lower.cuda import target
from symgraph.runtime.resident import resident
from tests.backends.host_device import HostDevice
from tests.lower.cuda_host import COMPILER

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


def perceptron(seed: int = 0) -> tuple[list[Any], Any, list[Any]]:
    rng = np.random.default_rng(seed)
    batch = sg.dim("device_batch")
    x, y = sg.tensor("x", (batch, 20)), sg.tensor("y", (batch,), "int32")
    weights = [rng.standard_normal(s).astype(np.float32) * 0.3 for s in ((20, 16), (16, 5))]
    v, w = sg.shared(weights[0], "v"), sg.shared(weights[1], "w")
    loss = sg.nn.cross_entropy(sg.relu(x @ v) @ w, y).mean()
    return [x, y], loss, [v, w]


def batch_of(count: int, seed: int = 1) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 20)).astype(np.float32)
    return x, rng.integers(0, 5, count).astype(np.int32)


def training(backend: str) -> tuple[Any, list[Any], Any]:
    inputs, loss, weights = perceptron()
    step = sg.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=1e-3)
    updates = step.updates(loss)
    return sg.function(inputs, loss, updates=updates, backend=backend), weights, (inputs, loss)


def test_training_is_that_of_the_reference(host: HostDevice) -> None:
    there, own, _ = training("cuda")
    here, wanted, _ = training("reference")
    assert there.backend == "cuda"
    for count in (32, 32, 7, 32):
        arrays = batch_of(count, count)
        np.testing.assert_allclose(there(*arrays), here(*arrays), rtol=1e-5)
    for one, other in zip(own, wanted):
        np.testing.assert_allclose(one.value, other.value, rtol=1e-5, atol=1e-6)
    assert host.modules == 1, "one source serves every size"


def test_variables_stay_on_the_device_until_somebody_asks(host: HostDevice) -> None:
    train, weights, (inputs, loss) = training("cuda")
    evaluate = sg.function(inputs, loss, backend="cuda")
    arrays = batch_of(16)
    train(*arrays)
    evaluate(*arrays)
    before, fetched = host.uploads, host.downloads
    train(*arrays)
    first = evaluate(*arrays)
    assert host.uploads - before == 4, "two inputs of two calls"
    changed = weights[0].value
    assert host.downloads - fetched >= 3
    train(*arrays)
    assert evaluate(*arrays) != first
    assert not np.array_equal(weights[0].value, changed)
    weights[0].value = changed
    weights[1].value = np.zeros_like(weights[1].value)
    np.testing.assert_allclose(evaluate(*arrays), np.log(5), rtol=1e-6)


def test_the_host_and_the_device_take_turns(host: HostDevice) -> None:
    train, weights, (inputs, loss) = training("cuda")
    reference, wanted, _ = training("reference")
    other = sg.function(inputs, loss, updates={weights[0]: weights[0] * 0.5}, backend="reference")
    arrays = batch_of(8)
    for _ in range(2):
        train(*arrays)
        other(*arrays)
        reference(*arrays)
        wanted[0].value = wanted[0].value * np.float32(0.5)
    np.testing.assert_allclose(weights[0].value, wanted[0].value, rtol=1e-5, atol=1e-6)


def test_outputs_are_nobody_elses_and_inputs_are_not_written(host: HostDevice) -> None:
    x = sg.tensor("x", (sg.dim("device_batch"), 3))
    f = sg.function([x], [sg.exp(x), x], backend="cuda")
    array = np.ones((2, 3), np.float32)
    first, same = f(array)
    second, _ = f(array * 2)
    np.testing.assert_allclose(first, np.e, rtol=1e-6)
    np.testing.assert_allclose(second, np.e**2, rtol=1e-6)
    assert not np.shares_memory(same, array)
    assert (array == 1).all()


def test_nothing_is_written_where_a_check_fails(host: HostDevice) -> None:
    train, weights, _ = training("cuda")
    before = [one.value for one in weights]
    x, y = batch_of(4)
    with pytest.raises(sg.errors.SymgraphError, match="5"):
        train(x, y + 5)
    for one, old in zip(weights, before):
        np.testing.assert_array_equal(one.value, old)


def test_a_step_that_ends_between_two_writes_is_the_last(host: HostDevice) -> None:
    train, weights, _ = training("cuda")
    arrays = batch_of(4)
    with sg.config(capture=False):
        train(*arrays)
        each = host.launches
        host.last = each
        with pytest.raises(OSError, match="lost"):
            train(*arrays)  # nothing was written yet
        host.last = 1 << 30
        train(*arrays)
        host.last = host.launches + each - 1
        with pytest.raises(OSError, match="lost"):
            train(*arrays)
    host.last = 1 << 30
    with pytest.raises(DeviceError, match=r"ended in the middle of its updates\.\n  OSError"):
        train(*arrays)
    assert weights


def test_the_guard_against_nan_works_there(host: HostDevice) -> None:
    x = sg.tensor("x", (3,))
    w = sg.shared(np.ones(3, np.float32), "w")
    f = sg.function([x], (w * x).sum(), {w: w + sg.log(x)}, nan_guard=True, backend="cuda")
    with pytest.raises(sg.errors.SymgraphError, match="log"):
        f(np.array([1, -1, 2], np.float32))
    np.testing.assert_array_equal(w.value, 1)


@pytest.mark.parametrize("count", [0, 1])
def test_empty_batches(count: int, host: HostDevice) -> None:
    x = sg.tensor("x", (sg.dim("device_any", min=0), 3))
    f = sg.function([x], [x.sum(axis=0), sg.exp(x)], backend="cuda")
    total, rows = f(np.ones((count, 3), np.float32))
    np.testing.assert_array_equal(total, np.full(3, count, np.float32))
    assert rows.shape == (count, 3)


def test_memory_is_known_before(host: HostDevice) -> None:
    inputs, loss, weights = perceptron()
    f = sg.function(inputs, loss, backend="cuda")
    held = sum(one.value.nbytes for one in weights)
    bound = f.bind(device_batch=64)
    assert bound.shared == held
    assert bound.peak == held + bound.arena
    assert bound.arena >= 64 * 20 * 4


def test_a_step_is_recorded_once_and_launched_as_one(host: HostDevice) -> None:
    train, weights, _ = training("cuda")
    reference, wanted, _ = training("reference")
    replays = []
    for count in (8, 8, 8, 5, 5, 8, 8):
        arrays = batch_of(count, count)
        np.testing.assert_allclose(train(*arrays), reference(*arrays), rtol=1e-5)
        replays.append(host.replays)
        host.replays = 0
    assert replays == [0, 1, 1, 0, 1, 1, 1]
    weights[0].value = wanted[0].value * 2
    wanted[0].value = wanted[0].value * 2
    np.testing.assert_allclose(train(*arrays), reference(*arrays), rtol=1e-5)
    for one, other in zip(weights, wanted):
        np.testing.assert_allclose(one.value, other.value, rtol=1e-5, atol=1e-6)


def test_the_first_call_is_never_recorded(host: HostDevice) -> None:
    x = sg.tensor("x", (3,))
    f = sg.function([x], sg.exp(x), backend="cuda")
    seen = []
    for _ in range(3):
        f(np.ones(3, np.float32))
        seen.append(host.replays)
    assert seen == [0, 1, 2]


def test_capture_can_be_switched_off_and_changes_no_bit(host: HostDevice) -> None:
    found = []
    for capture in (True, False):
        train, weights, _ = training("cuda")
        with sg.config(capture=capture):
            for _ in range(4):
                train(*batch_of(6))
        found.append([one.value.tobytes() for one in weights])
        assert (host.replays > 0) == capture
        host.replays = 0
    assert found[0] == found[1]


def test_a_profile_times_every_step_and_changes_nothing(host: HostDevice) -> None:
    train, weights, _ = training("cuda")
    arrays = batch_of(16)
    train(*arrays)
    before = [one.value.tobytes() for one in weights]
    shown = train.profile(*arrays, repeat=2)
    assert [one.value.tobytes() for one in weights] == before
    assert shown.backend == host.name
    assert all(row.seconds > 0 for row in shown.rows)
    assert {row.implementation for row in shown.rows} == {"generated kernel"}
    assert any("cross_entropy" in row.name for row in shown.rows)
    (together,) = [row.name for row in shown.rows if "divide" in row.name]
    assert "subtract" in together, "the loss beside the updates"
    assert "FLOP/s float32" in str(shown)
    assert "test_device.py" in str(shown)
    other, wanted, _ = training("reference")
    other(*arrays)
    other(*arrays)
    train(*arrays)
    for one, same in zip(weights, wanted):
        np.testing.assert_allclose(one.value, same.value, rtol=1e-5, atol=1e-6)
    with pytest.raises(sg.errors.ArgumentError, match="repeat must be"):
        train.profile(*arrays, repeat=0)


def test_a_profile_raises_what_a_call_would_and_puts_things_back(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, weights, _ = training("cuda")
    x, y = batch_of(16)
    train(x, y)
    before = [one.value.tobytes() for one in weights]
    with pytest.raises(sg.errors.SymgraphError, match="5"):
        train.profile(x, y + 9)
    seconds, count = host.seconds, 0

    def interrupted(work: Any) -> float:
        nonlocal count
        taken = seconds(work)
        count += 1
        if count > 30:  # in the middle
            raise KeyboardInterrupt
        return taken

    monkeypatch.setattr(host, "seconds", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.profile(x, y, repeat=9)
    train(x, y)
    other, wanted, _ = training("reference")
    other(x, y)
    other(x, y)
    for one, same, old in zip(weights, wanted, before):
        np.testing.assert_allclose(one.value, same.value, rtol=1e-5, atol=1e-6)
        assert one.value.tobytes() != old


def test_what_never_ran_is_not_recorded(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "bundle", lambda plan, nominal: None)  # all would be before it
    rows, at = sg.tensor("rows", (4, 3)), sg.tensor("at", (2,), "int32")
    take = sg.function([rows, at], sg.take(rows, at, axis=0), backend="cuda")
    x, y = np.ones((4, 3), np.float32), np.array([1, 2], np.int32)
    with pytest.raises(sg.errors.SymgraphError):
        take(x, y + 5)  # the second segment does not run
    take(x, y)
    assert host.replays == 1, "the first alone was recorded"
    take(x, y)
    assert host.replays == 3


def test_threads_take_turns_on_a_device(host: HostDevice) -> None:
    """One records while another runs: without turns its launches would be recorded too."""
    x = sg.tensor("x", (64,))
    functions = [sg.function([x], sg.exp(x) + k, backend="cuda") for k in range(4)]
    rows, wrong = np.linspace(0, 1, 64, dtype=np.float32), []

    def work(k: int) -> None:
        for _ in range(20):
            functions[k].close()
            for _ in range(3):
                if not np.allclose(functions[k](rows), np.exp(rows) + k):
                    wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


def test_a_variable_that_is_gone_gives_its_memory_back(host: HostDevice) -> None:
    train, weights, kept = training("cuda")
    train(*batch_of(4))
    memory, _ = resident(host)._held[weights[0].storage]
    gone = weakref.ref(memory)
    gc.collect()
    gc.disable()
    try:
        del train, weights, kept, memory
        gc.collect()  # the graph itself has cycles
        assert gone() is None
    finally:
        gc.enable()


def test_two_functions_share_the_copies_of_a_device(host: HostDevice) -> None:
    assert resident(host) is resident(host)


# -- without a device ------------------------------------------------------------------------------


@pytest.mark.skipif(not status().problem, reason="there is a CUDA device")
def test_no_device_is_one_sentence() -> None:
    x = sg.tensor("x", (3,))
    with pytest.raises(DeviceError, match=r"^cuda:1: .*\.\n  fix: .*doctor") as caught:
        sg.function([x], sg.exp(x), backend="cuda:1")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CUDA", "cuda:-1"])
def test_other_names_are_refused(name: str) -> None:
    x = sg.tensor("x", (3,))
    with pytest.raises(ArgumentTypeError, match="there is no backend"):
        sg.function([x], sg.exp(x), backend=name)


def unseen(host: HostDevice) -> tuple[sg.Function, list[sg.Shared], list[Any]]:
    """A step that gives nothing back, its variables, and a batch with a label too large."""
    x, y = sg.tensor("x", (4, 20)), sg.tensor("y", (4,), "int32")
    w, b = sg.shared(np.ones((20, 5), np.float32), "w"), sg.shared(np.zeros(5, np.float32), "b")
    loss = sg.cross_entropy(x @ w + b, y).mean()
    train = sg.function([x, y], [], sg.optim.SGD([w, b], 0.1).updates(loss), backend="cuda")
    images, labels = batch_of(4)
    return train, [w, b], [images, labels, labels + 9]


def test_a_check_that_nobody_waits_for_is_told_later(host: HostDevice) -> None:
    train, weights, (images, labels, wrong) = unseen(host)
    for _ in range(3):
        train(images, labels)
    before = [one.value for one in weights]
    waits = host.downloads
    train(images, wrong)
    assert host.downloads == waits, "nobody has waited"
    with pytest.raises(sg.errors.InputError, match=r"a step before this one(.|\n)*cross_entropy"):
        train(images, labels)
    for one, old in zip(weights, before):
        np.testing.assert_array_equal(one.value, old)
    train(images, labels)
    assert any((one.value != old).any() for one, old in zip(weights, before))


def test_a_check_that_nobody_waits_for_is_told_with_the_numbers(host: HostDevice) -> None:
    train, weights, (images, labels, wrong) = unseen(host)
    train(images, labels)
    train(images, wrong)
    with pytest.raises(sg.errors.InputError, match="nothing was written"):
        _ = weights[0].value
    assert np.isfinite(weights[0].value).all(), "it is told once"


def test_a_check_that_nobody_waits_for_is_told_at_the_end(host: HostDevice) -> None:
    train, weights, (images, labels, wrong) = unseen(host)
    train(images, labels)
    train(images, wrong)
    with pytest.raises(sg.errors.InputError, match="nor by this function since"):
        train.close()
    train.close()
    assert np.isfinite(weights[0].value).all()


def test_steady_steps_ask_nothing_of_variables(host: HostDevice) -> None:
    train, weights, (images, labels, _) = unseen(host)
    for _ in range(3):
        train(images, labels)
    version = weights[0].storage.version
    train(images, labels)
    assert weights[0].storage.version == version, "nobody has looked at the last numbers"
    there = weights[0].value
    train(images, labels)
    assert weights[0].storage.version > version
    assert (weights[0].value != there).any()
    weights[0].value = there
    np.testing.assert_array_equal(weights[0].value, there)
    train(images, labels)
    assert (weights[0].value != there).any()


def test_a_step_that_ends_with_copies_is_held(host: HostDevice, monkeypatch: Any) -> None:
    """Ctrl-C between the launch and the copies would leave half of the updates."""
    u, v = (sg.shared(np.zeros(4, np.float32), name) for name in "uv")
    f = sg.function([], [], {u: v + 1, v: u + 1}, backend="cuda")
    for _ in range(3):
        f()
    copy = host.copy

    def interrupted(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        copy(*arguments)

    monkeypatch.setattr(host, "copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        f()
    np.testing.assert_array_equal(u.value, v.value)


def test_a_check_of_a_function_that_is_gone_is_told(host: HostDevice) -> None:
    train, weights, (images, labels, wrong) = unseen(host)
    train(images, labels)
    train(images, wrong)
    del train
    gc.collect()
    with pytest.raises(sg.errors.InputError, match="nothing was"):
        _ = weights[0].value
    assert np.isfinite(weights[0].value).all()


def test_what_is_written_while_inputs_are_brought_is_seen(
    host: HostDevice, monkeypatch: Any
) -> None:
    x, w = sg.tensor("x", (2,)), sg.shared(np.float32(1), "w")
    total = sg.shared(np.zeros(2, np.float32), "total")
    f = sg.function([x], [], {total: total + w * x}, backend="cuda")
    one = np.ones(2, np.float32)
    for _ in range(3):
        f(one)
    upload = host.upload

    def during(*arguments: Any) -> None:
        upload(*arguments)
        monkeypatch.setattr(host, "upload", upload)
        w.value = np.float32(100)

    monkeypatch.setattr(host, "upload", during)
    f(one)
    f(one)
    np.testing.assert_array_equal(total.value, 104)
