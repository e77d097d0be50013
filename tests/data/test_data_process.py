"""A loader in a process of its own: the batches of threads, in memory that is kept."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph.data import Augment, Loader, digits, open_dataset
from symgraph.data.ring import Layout, Ring
from tests.data.noise import (
    Noise,
    process_loader,
    same,
)

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux"),
]


# -------------------------------------------------------------------------------- the same batches


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 16, "seed": 5, "workers": 3, "prefetch": 4},
        {"batch": 7, "rank": 2, "ranks": 4, "prefetch": 1},
        {"batch": 20, "shuffle": False, "augment": False, "drop_last": True},
        {"batch": 64, "augment": Augment(3, seed=2**64 - 1, mirror=False), "crop": None},
    ],
    ids=["threads", "ranks", "evaluation", "whole"],
)
def test_batches_are_those_of_threads_to_and_fro(options: dict[str, Any]) -> None:
    random = np.random.default_rng(3)
    with process_loader(**options) as ours, Loader(Noise(), **{"crop": 7, **options}) as theirs:
        assert len(ours) == len(theirs)
        states = []
        for _ in range(3 * len(theirs)):
            assert ours.state() == theirs.state()
            states.append(json.loads(json.dumps(theirs.state())))
            assert same(ours.next_batch(), theirs.next_batch())
        for _ in range(12):  # the process always has batches of another place to leave out
            state = states[random.integers(len(states))]
            for loader in (ours, theirs):
                loader.set_state(state)
            for _ in range(random.integers(4)):
                assert same(ours.next_batch(), theirs.next_batch())
        assert [batch.step for batch in ours] == [batch.step for batch in theirs]
        assert ours.epoch == theirs.epoch
        assert ours.images_per_second > 0
        assert ours.wait_seconds > 0


def test_batches_that_nobody_wants_any_more_are_not_begun(tmp_path: Path) -> None:
    noise = Noise(seconds=0.3, diary=tmp_path / "diary")
    with process_loader(noise, 5, shuffle=False, prefetch=9) as loader:
        loader.next_batch()
        loader.set_state({**loader.state(), "position": 45})
        assert loader.next_batch().labels.tolist() == list(range(45, 50))
    read = [int(line) for line in (tmp_path / "diary").read_text().splitlines()]
    assert 45 in read
    assert read.index(45) <= 5  # nine others had been asked for


def test_prepared_and_built_in_data_go_through(prepared: Path) -> None:
    for dataset, crop in ((digits(32), 28), (open_dataset(prepared), 3)):
        with (
            Loader(dataset, 8, crop=crop, process=True) as ours,
            Loader(dataset, 8, crop=crop) as theirs,
        ):
            assert all(same(a, b) for a, b in zip(ours, theirs))


def test_pixels_of_a_prepared_set_are_not_sent(prepared: Path) -> None:
    with process_loader(open_dataset(prepared), 8, crop=3) as loader:
        loader.next_batch()
        maps = Path(f"/proc/{loader.pid}/maps").read_text("utf-8")
    assert str(prepared / "train-00000.npy") in maps


# ----------------------------------------------------------------------------------------- memory


def test_kept_batches_are_never_written_over() -> None:
    with process_loader(prefetch=2) as loader, Loader(Noise(), 16, crop=7) as threads:
        kept = [*loader, *loader]
        views = [batch.images[1:, :, ::2] for batch in [*loader]]
        labels = [batch.labels[1:] for batch in [*loader]]
        for _ in range(20):
            loader.next_batch()
        expected = [*threads, *threads, *threads, *threads]
    del loader
    gc.collect()  # and the memory outlives its loader
    for batch, wanted in zip(kept, expected):
        assert same(batch, wanted)
    for view, wanted in zip(views, expected[8:]):
        np.testing.assert_array_equal(view, wanted.images[1:, :, ::2])
    for label, wanted in zip(labels, expected[12:]):
        np.testing.assert_array_equal(label, wanted.labels[1:])


def test_dropped_batches_lie_in_few_slots_that_can_be_pinned() -> None:
    with process_loader(prefetch=2, workers=2) as loader:
        assert loader._process is not None
        start, size = loader._process.ring.place
        assert start % 4096 == size % 4096 == 0
        addresses = set()
        for _ in range(40):
            batch = loader.next_batch()
            addresses.add(batch.images.ctypes.data)
            assert start <= batch.labels.ctypes.data < start + size
        assert len(addresses) <= 4  # nothing was copied, though one batch was always held
        assert all(start <= at < start + size and at % 4096 == 0 for at in addresses)
        held = [loader.next_batch() for _ in range(5)]
        places = [batch.images.ctypes.data for batch in held]
        assert not all(start <= at < start + size for at in places)  # too many to lie in the ring
    with Loader(Noise(), 16, crop=7) as threads:
        assert threads.pid is None


@given(st.integers(1, 9), st.integers(1, 300), st.integers(1, 40), st.data())
@settings(deadline=None, max_examples=50)
def test_parts_of_slots_lie_apart(slots: int, images: int, crop: int, data: st.DataObject) -> None:
    layout = Layout(slots, images, crop)
    memory = np.zeros(layout.size, np.uint8)
    count = data.draw(st.integers(0, images))
    for slot in range(slots):
        whole = memory[slot * layout.slot_size : (slot + 1) * layout.slot_size]
        for number, part in enumerate(layout.parts(whole, count)):
            assert len(part) == count
            assert not part.any()  # nobody else has written here
            part[...] = slot * 3 + number + 1
    for slot in range(slots):
        whole = memory[slot * layout.slot_size : (slot + 1) * layout.slot_size]
        for number, part in enumerate(layout.parts(whole, count)):
            assert (part == slot * 3 + number + 1).all()


def test_a_slot_is_free_when_its_last_view_is_gone() -> None:
    ring = Ring(Layout(2, 4, 5))
    assert ring.free.popleft() == 0
    images, labels = ring.lend(0, 3)
    assert list(ring.free) == [1]
    view = images[1:, 0].T
    del images
    gc.collect()
    assert list(ring.free) == [1]
    del view
    gc.collect()
    assert list(ring.free) == [1]  # the labels still lie there
    del labels
    assert list(ring.free) == [1, 0]
    copied, _ = ring.copy(ring.free.popleft(), 4)
    assert list(ring.free) == [0, 1]
    assert copied.flags.owndata
    ring.close()
