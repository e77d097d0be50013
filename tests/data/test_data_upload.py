"""Batches of whole images, and batches that a device is brought while it computes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.data import Augment, Loader, crop_mirror
from symgraph.errors import ArgumentError, DataError, DeviceError
from tests.backends.host_device import HostDevice
from tests.backends.test_gpu import GPU, HOST
from tests.data.noise import Noise, process_loader, take

pytestmark = pytest.mark.timeout(120)

OPTIONS: dict[str, Any] = {"batch": 8, "crop": 7, "seed": 3}
MAKERS = [{"workers": 0}, {"workers": 2}, {"process": True}]
NAMES = ["caller", "threads", "process"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """A device that is this CPU, which the loader finds under every number."""
    made = HostDevice(tmp_path, "cuda:0")
    monkeypatch.setattr(sys.modules["symgraph.data.loader"], "opened", lambda number: made)
    return made


@pytest.fixture(params=[HOST, GPU])
def there(request: pytest.FixtureRequest) -> str:
    """Let "cuda" be this CPU, or a GPU."""
    if request.param == "host":
        request.getfixturevalue("host")
    return "cuda"


def here(array: Any) -> np.ndarray:
    """Give the numbers of an array of the device."""
    return array.get()  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------ whole images


@pytest.mark.parametrize("maker", MAKERS, ids=NAMES)
@pytest.mark.parametrize("augment", [Augment(7, seed=3), Augment(7, train=False)])
def test_whole_images_cut_by_their_windows_are_the_cropped_ones(
    maker: dict[str, Any], augment: Augment
) -> None:
    noise, options = Noise(), {**OPTIONS, "augment": augment}
    with (
        Loader(noise, **options, **maker, cropped=False) as whole,
        Loader(noise, **options) as cropped,
    ):
        for _ in range(2 * len(cropped)):
            ours, theirs = whole.next_batch(), cropped.next_batch()
            assert ours.images.dtype == np.uint8
            assert ours.images.shape == (len(theirs), 3, 10, 10)
            assert theirs.top is theirs.left is theirs.mirror is None
            assert [one.dtype.name for one in ours.inputs[1:]] == ["int32"] * 3 + ["bool"]
            images, labels, *windows = ours.inputs
            cut = crop_mirror(images, 7, *windows, mean=noise.mean_image)
            assert cut.tobytes() == theirs.inputs[0].tobytes()
            assert labels.tolist() == theirs.inputs[1].tolist()
            assert ours.indices.tolist() == theirs.indices.tolist()


def test_a_ring_of_whole_images_is_smaller() -> None:
    with process_loader(Noise(), cropped=False) as whole, process_loader(Noise()) as cropped:
        assert whole._process is not None
        assert cropped._process is not None
        assert whole._process.ring.layout.slot_size < cropped._process.ring.layout.slot_size


def test_whole_images_are_checked(tmp_path: Path) -> None:
    class Floats(Noise):
        def read(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
            images, labels = super().read(indices)
            return images.astype(np.float32), labels

    loader = Loader(Floats(), **OPTIONS, cropped=False)
    with loader, pytest.raises(DataError, match="images must be a uint8 array, got float32"):
        loader.next_batch()


# ------------------------------------------------------------------------------------- on a device


@pytest.mark.parametrize("cropped", [True, False], ids=["cropped", "whole"])
@pytest.mark.parametrize("maker", MAKERS, ids=NAMES)
def test_batches_of_a_device_are_those_of_the_host(
    there: str, maker: dict[str, Any], cropped: bool
) -> None:
    options = {**OPTIONS, "cropped": cropped}
    with (
        Loader(Noise(), **options, **maker, device=there) as ours,
        Loader(Noise(), **options) as theirs,
    ):
        kept = []
        for _ in range(3 * len(theirs)):
            assert ours.state() == theirs.state()
            batch, wanted = ours.next_batch(), theirs.next_batch()
            assert len(batch) == len(wanted)
            kept.append((batch, wanted))
        states = [ours.state(), {**ours.state(), "epoch": 1, "position": 16}]
        for state in states:  # what was sent ahead is not what comes now
            ours.set_state(state)
            theirs.set_state(state)
            kept += [(ours.next_batch(), theirs.next_batch()) for _ in range(2)]
        for batch, wanted in kept:  # the memory of none was used for another
            for one, other in zip(batch.inputs, wanted.inputs, strict=True):
                assert here(one).tobytes() == other.tobytes()
                assert one.dtype == other.dtype


def test_the_next_batch_is_on_its_way_before_it_is_asked_for(host: HostDevice) -> None:
    with process_loader(Noise(), device="cuda:0") as loader:
        first = loader.next_batch()
        assert loader.ready(20.0)  # the second: made
        (feeder,) = host.feeders
        second = loader.next_batch()
        while len(feeder.sent) < 3:  # the third, if it was not made when the second was taken
            assert loader.ready(20.0)
            loader.next_batch()
        ahead = feeder.sent[-1]
        assert not ahead.arrived()  # it is still in the ring
        taken = len(feeder.sent)
        batch = loader.next_batch()
        assert ahead.arrived()
        assert len(feeder.sent) <= taken + 1  # it was not sent again
        assert here(batch.images).tobytes() == here(ahead.made[0][0]).tobytes()
        assert here(first.images).tobytes() != here(second.images).tobytes()


def test_the_ring_is_pinned_as_long_as_the_loader_lives(host: HostDevice) -> None:
    loader = process_loader(Noise(), device="cuda")
    assert loader._process is not None
    (feeder,) = host.feeders
    assert feeder.pinned == dict([loader._process.ring.place])
    loader.next_batch()
    loader.close()
    assert feeder.pinned == {}
    loader.close()


def test_slots_are_free_only_when_they_were_copied(host: HostDevice) -> None:
    with process_loader(Noise(), prefetch=1, device="cuda") as loader:
        batches = [loader.next_batch() for _ in range(12)]
        ring = loader._process.ring  # type: ignore[union-attr]
        assert len(ring.free) <= ring.layout.slots
        for batch in batches:
            assert here(batch.labels).tolist() == batch.indices.tolist()


def test_a_batch_that_fails_does_not_spoil_the_one_before_it(host: HostDevice) -> None:
    noise = Noise(faults={20: "raise"})
    for maker in MAKERS:
        with Loader(noise, **{**OPTIONS, "shuffle": False}, **maker, device="cuda") as loader:
            assert [here(loader.next_batch().labels)[0] for _ in range(2)] == [0, 8]
            for _ in range(2):  # and again
                with pytest.raises(DataError, match=r"batch 2 of epoch 0 .* is not in list"):
                    loader.next_batch()
            loader.set_state({**loader.state(), "position": 24})
            assert here(loader.next_batch().labels)[0] == 24


def test_a_device_without_room_says_so_when_the_batch_is_asked_for(host: HostDevice) -> None:
    with Loader(Noise(), **OPTIONS, workers=1, device="cuda") as loader:
        loader.next_batch()
        (feeder,) = host.feeders
        feeder.full = True
        with pytest.raises(DataError, match=r"batch [12] .* no memory is to be had"):
            take(loader, 3)
        feeder.full = False
        state = loader.state()
        loader.set_state(state)
        assert loader.next_batch().step * 8 == state["position"]


def test_ranks_without_images_have_empty_arrays(host: HostDevice) -> None:
    options = {**OPTIONS, "batch": 49, "shuffle": False, "rank": 1, "ranks": 2}
    with Loader(Noise(), **options, cropped=False, device="cuda") as loader:
        sizes = [one.shape[0] for _ in range(2) for one in loader.next_batch().inputs]
    assert sizes == [24] * 5 + [0] * 5


def test_a_lost_device_keeps_no_process(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(sent: Any) -> None:
        raise OSError("the device is lost")

    loader = process_loader(Noise(), device="cuda")
    (feeder,) = host.feeders
    while len(feeder.sent) < 2 or feeder.sent[-1].arrived():  # until one is on its way
        loader.next_batch()
        assert loader.ready(20.0)
    monkeypatch.setattr("tests.backends.host_device.HostSent.wait", lost)
    with pytest.raises(OSError, match="lost"):
        loader.close()
    assert loader.pid is None
    assert feeder.pinned == {}
    loader.close()


def test_other_devices_are_refused() -> None:
    for device in ("cpu", "cuda:x", 1):
        with pytest.raises(ArgumentError, match="Loader: device="):
            Loader(Noise(), **OPTIONS, device=device)  # type: ignore[arg-type]


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="cuda:99"):
        Loader(Noise(), **OPTIONS, device="cuda:99")


def test_pages_that_cannot_be_pinned_end_the_process(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = []

    def refuse(feeder: Any, address: int, size: int) -> Any:
        raise DeviceError("no page can be pinned.")

    started = sys.modules["symgraph.data.loader"].LoaderProcess

    def noted(*args: Any) -> Any:
        processes.append(started(*args))
        return processes[-1]

    monkeypatch.setattr("tests.backends.host_device.HostFeeder.pin", refuse)
    monkeypatch.setattr(sys.modules["symgraph.data.loader"], "LoaderProcess", noted)
    monkeypatch.setattr(sys.modules["symgraph.data.upload"], "LoaderProcess", started)
    with pytest.raises(DeviceError, match="pinned"):
        process_loader(Noise(), device="cuda")
    assert processes[0].pid is None
