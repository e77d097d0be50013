"""A step that something else ends after a check has failed: the next call is not to blame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import DeviceError, InputError
from symgraph.lower.cuda import target
from tests.backends.host_device import HostDevice
from tests.lower.cuda_host import COMPILER
from tests.runtime.test_device import batch_of, training, unseen

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
NOTE = "given numbers that it must not be given as well; nothing was written by it"


def lose(host: HostDevice, after: int) -> None:
    """Let launches fail from one on."""
    host.last = host.launches + after


def fails_once(host: HostDevice, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one of the things that a device does fail, the first time."""
    works = getattr(host, name)

    def broken(*given: Any) -> Any:
        monkeypatch.setattr(host, name, works)
        raise OSError(f"{name} is lost")

    monkeypatch.setattr(host, name, broken)


def launches_of(train: Callable[..., Any], arrays: tuple[Any, Any], host: HostDevice) -> int:
    before = host.launches
    train(*arrays)
    return host.launches - before


def test_wherever_a_wrong_step_ends_the_next_one_is_right(host: HostDevice) -> None:
    there, own, _ = training("cuda")
    here, wanted, _ = training("reference")
    x, y = batch_of(8)
    noted = 0
    with sg.config(capture=False):
        steps = launches_of(there, (x, y), host)
        here(x, y)
        for after in range(steps):
            lose(host, after)
            with pytest.raises(OSError, match="lost") as caught:
                there(x, y + 9)
            host.last = 1 << 30
            said = "\n".join(getattr(caught.value, "__notes__", []))
            noted += NOTE in said
            assert (NOTE in said) == ("cross_entropy" in said)
            np.testing.assert_allclose(there(x, y), here(x, y), rtol=1e-5)
            for one, other in zip(own, wanted):
                np.testing.assert_allclose(one.value, other.value, rtol=1e-5, atol=1e-6)
    assert 0 < noted < steps, "some ended before the check, some after it"


def test_a_right_step_that_ends_early_is_broken_as_before(host: HostDevice) -> None:
    there, _, _ = training("cuda")
    arrays = batch_of(8)
    with sg.config(capture=False):
        steps = launches_of(there, arrays, host)
        lose(host, steps - 1)
        with pytest.raises(OSError, match="lost") as caught:
            there(*arrays)
    assert not hasattr(caught.value, "__notes__")
    host.last = 1 << 30
    with pytest.raises(DeviceError, match="in the middle of its updates"):
        there(*arrays)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_outputs_that_do_not_arrive(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Step by step, while it is recorded, and as recorded."""
    there, own, _ = training("cuda")
    x, y = batch_of(8)
    for _ in range(calls):
        there(x, y)
    before = [one.value for one in own]
    fails_once(host, "download", monkeypatch)
    with pytest.raises(OSError, match="download is lost") as caught:
        there(x, y + 9)
    assert NOTE in "\n".join(caught.value.__notes__)
    for one, old in zip(own, before):
        np.testing.assert_array_equal(one.value, old)
    assert np.isfinite(there(x, y))
    assert any((one.value != old).any() for one, old in zip(own, before))


def test_an_interrupted_step_is_told_of_as_well(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, weights, (images, labels, wrong) = unseen(host)
    for _ in range(3):
        train(images, labels)
    replayed = host.replay

    def interrupted(captured: Any) -> None:
        replayed(captured)
        raise KeyboardInterrupt

    with monkeypatch.context() as inside:
        inside.setattr(host, "replay", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            train(images, wrong)
    assert NOTE in "\n".join(caught.value.__notes__)
    before = weights[0].value
    train(images, labels)
    assert (weights[0].value != before).any()


def test_a_profile_that_ends_early_leaves_nothing(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, weights, (images, labels, wrong) = unseen(host)
    train(images, labels)
    before = weights[0].value
    fails_once(host, "download", monkeypatch)  # of the condition, which is waited for here
    with pytest.raises(OSError, match="download is lost") as caught:
        train._executor.bound({}).timed([images, wrong], 1)
    assert NOTE in "\n".join(caught.value.__notes__)
    np.testing.assert_array_equal(weights[0].value, before)
    train(images, labels)
    assert (weights[0].value != before).any()


def test_an_earlier_step_that_nobody_waited_for_is_told_of(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mark has not come here yet when the next step begins, which then ends early."""
    train, weights, (images, labels, wrong) = unseen(host)
    train(images, labels)
    queued: list[tuple[int, int, int]] = []
    sent, settled = host.send, host.settle

    def settle() -> None:
        settled()
        while queued:
            sent(*queued.pop(0))

    monkeypatch.setattr(host, "send", lambda *given: queued.append(given))
    monkeypatch.setattr(host, "settle", settle)
    before = weights[0].value
    with sg.config(capture=False):
        train(images, wrong)
        lose(host, 1)
        with pytest.raises(OSError, match="lost") as caught:
            train(images, labels)
        host.last = 1 << 30
        assert "or one before that nobody waited for" in "\n".join(caught.value.__notes__)
        np.testing.assert_array_equal(weights[0].value, before)
        train(images, labels)
    assert (weights[0].value != before).any()


def test_a_device_that_is_lost_for_good_says_only_that(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one launch after another, of which some come between the check and the writes
    monkeypatch.setattr(target, "bundle", lambda plan, nominal: None)
    train, _, (images, labels, wrong) = unseen(host)
    train(images, labels)

    def gone() -> None:
        raise OSError("nobody answers")

    with monkeypatch.context() as inside, sg.config(capture=False):
        inside.setattr(host, "settle", gone)
        lose(host, 3)
        with pytest.raises(OSError, match="the device is lost") as caught:
            train(images, wrong)
    assert not hasattr(caught.value, "__notes__")
    host.last = 1 << 30
    with pytest.raises(InputError, match="a step before this one"):  # it was never told of
        train(images, labels)
