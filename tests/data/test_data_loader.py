"""The loader: order, crops, ranks, resume, errors, memory and threads."""

from __future__ import annotations

import gc
import json
import threading
import time
from typing import Any

import numpy as np
import pytest

from symgraph.data import Augment, Batch, Loader, digits, open_dataset
from symgraph.errors import ArgumentError, DataError


class Noise:
    """`count` noisy images of side 10; image i has label i."""

    def __init__(self, count: int = 50, size: int = 10) -> None:
        random = np.random.default_rng(2)
        self.images = random.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
        self.mean_image = random.uniform(0, 255, (3, size, size)).astype(np.float32)
        self.classes = [str(i) for i in range(count)]
        self.image_size = size
        self.reads = 0
        self.fail_at: int | None = None
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
        if self.fail_at is not None and self.fail_at in indices:
            raise RuntimeError("the disk is on fire")
        self.reads += 1
        time.sleep(self.seconds)
        return self.images[indices], np.asarray(indices, dtype=np.int32)


@pytest.mark.parametrize("workers", [0, 1])
def test_ready_waits_and_takes_nothing(workers: int) -> None:
    data = Noise()
    data.seconds = 0.2
    with Loader(data, 20, crop=7, workers=workers) as loader:
        start = loader.state()
        assert loader.ready(0.01) is (workers == 0)  # whoever loads in the caller never waits
        assert loader.ready(10.0)
        assert loader.state() == start
        assert loader.next_batch().step == 0
        assert loader.state() != start


def by_image(batches: list[Batch]) -> dict[int, bytes]:
    result = {int(y): x.tobytes() for batch in batches for x, y in zip(batch.images, batch.labels)}
    assert len(result) == sum(len(batch) for batch in batches)
    return result


def loader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("symgraph-loader")]


def wait_until(condition: Any, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


def same(a: Batch, b: Batch) -> bool:
    return (
        a.images.tobytes() == b.images.tobytes()
        and a.labels.tolist() == b.labels.tolist()
        and (a.index, a.epoch, a.step) == (b.index, b.epoch, b.step)
        and a.indices.tolist() == b.indices.tolist()
    )


def test_batches_against_a_slow_reference() -> None:
    noise = Noise()
    with Loader(noise, 16, seed=5, crop=7) as loader:
        batches = [*loader, *loader]
    assert [len(batch) for batch in batches] == [16, 16, 16, 2] * 2
    for batch in batches:
        assert batch.images.shape == (len(batch), 3, 7, 7)
        assert (batch.images.dtype, batch.labels.dtype) == (np.float32, np.int32)
        key = np.array([5, batch.epoch], dtype=np.uint64)
        order = np.argsort(
            np.random.Philox(key=key, counter=np.array([0, 0, 0, 2], np.uint64)).random_raw(50)
        )
        assert batch.index == 16 * batch.step
        wanted = order[batch.index : batch.index + len(batch)]
        assert batch.labels.tolist() == batch.indices.tolist() == wanted.tolist()
        for image, index in zip(batch.images, wanted):
            counter = np.array([index, 0, 0, 1], dtype=np.uint64)
            words = [int(w) for w in np.random.Philox(key=key, counter=counter).random_raw(3)]
            y, x = (words[0] >> 32) * 4 >> 32, (words[1] >> 32) * 4 >> 32
            whole = (noise.images[index].astype(np.float32) - noise.mean_image)[:, y : y + 7]
            window = whole[:, :, x : x + 7]
            expected = window[:, :, ::-1] if words[2] >> 63 else window
            np.testing.assert_array_equal(image, expected)


def test_evaluation_takes_centres_in_stored_order() -> None:
    noise = Noise()
    with Loader(noise, 20, shuffle=False, augment=False, crop=7) as loader:
        batches = [*loader, *loader]
    assert np.concatenate([batch.labels for batch in batches]).tolist() == [*range(50)] * 2
    expected = noise.images[:, :, 1:8, 1:8] - noise.mean_image[:, 1:8, 1:8]
    np.testing.assert_array_equal(np.concatenate([b.images for b in batches[:3]]), expected)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("batch", [1, 7, 16, 50, 64])
def test_images_do_not_depend_on_batch_or_workers(batch: int, workers: int) -> None:
    noise = Noise()
    with Loader(noise, 13, seed=3, crop=7) as loader:
        expected = [by_image(list(loader)), by_image(list(loader))]
    with Loader(noise, batch, seed=3, crop=7, workers=workers, prefetch=4) as loader:
        assert [by_image(list(loader)), by_image(list(loader))] == expected
    assert expected[0] != expected[1]
    assert expected[0].keys() == expected[1].keys() == set(range(50))


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize(("batch", "ranks"), [(4, 3), (5, 2), (7, 7), (1, 4), (20, 3)])
def test_ranks_together_are_one_loader(batch: int, ranks: int, extra: int) -> None:
    noise = Noise()
    with Loader(noise, batch * ranks + extra, crop=7, workers=0) as loader:
        whole = [*loader, *loader]
    parts = []
    for rank in range(ranks):
        with Loader(noise, batch * ranks + extra, crop=7, rank=rank, ranks=ranks) as loader:
            assert len(loader) == len(whole) // 2
            parts.append([*loader, *loader])
    for step, expected in enumerate(whole):
        shares = [part[step] for part in parts]
        images = np.concatenate([share.images for share in shares])
        np.testing.assert_array_equal(images, expected.images)
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        assert {(share.epoch, share.step) for share in shares} == {(expected.epoch, expected.step)}
        assert [share.index - expected.index for share in shares] == [
            sum(sizes[:rank]) for rank in range(ranks)
        ]
        assert [share.row for share in shares] == [sum(sizes[:rank]) for rank in range(ranks)]
        assert {share.images_of_all for share in shares} == {len(expected)}


def test_a_rank_without_images_still_takes_the_step() -> None:
    shares = []
    for rank in range(4):
        with Loader(Noise(9), 8, crop=7, rank=rank, ranks=4) as loader:
            shares.append(list(loader)[-1])
    assert [len(share) for share in shares] == [1, 0, 0, 0]
    assert {share.images.shape[1:] for share in shares} == {(3, 7, 7)}


def test_drop_last() -> None:
    with Loader(Noise(), 16, crop=7, drop_last=True) as loader:
        assert len(loader) == 3
        batches = [*loader, *loader]
    assert [(len(b), b.epoch, b.step) for b in batches] == [
        (16, epoch, step) for epoch in (0, 1) for step in (0, 1, 2)
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_resume_at_every_batch_is_bit_equal(workers: int, drop_last: bool) -> None:
    options: dict[str, Any] = {"crop": 7, "workers": workers, "drop_last": drop_last, "prefetch": 3}
    with Loader(Noise(), 16, **options) as loader:
        states, batches = [], []
        for _ in range(10):
            states.append(json.loads(json.dumps(loader.state())))
            batches.append(loader.next_batch())
    with Loader(Noise(), 16, **options) as loader:
        for start in (9, 0, 3, 4, 7):  # to and fro, with batches of another place made ahead
            loader.set_state(states[start])
            assert loader.state() == states[start]
            for expected in batches[start:]:
                assert same(loader.next_batch(), expected)


def test_state_counts_what_was_handed_out() -> None:
    with Loader(Noise(), 16, seed=9, crop=7, prefetch=4) as loader:
        assert loader.state() == {"epoch": 0, "position": 0, "seed": 9, "images": 50}
        for _ in range(3):
            loader.next_batch()
        assert loader.state() == {"epoch": 0, "position": 48, "seed": 9, "images": 50}
        loader.next_batch()
        assert loader.state() == {"epoch": 1, "position": 0, "seed": 9, "images": 50}
        assert loader.epoch == 1


def test_a_broken_off_epoch_goes_on() -> None:
    with Loader(Noise(), 16, crop=7) as loader:
        for batch in loader:
            if batch.step == 1:
                break
        assert [(batch.epoch, batch.step) for batch in loader] == [(0, 2), (0, 3)]
        assert [(batch.epoch, batch.step) for batch in loader] == [(1, k) for k in range(4)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "(?s)run with seed=2; this loader has seed=1.*fix: use the same seed"),
        ({"images": 51}, "(?s)run with images=51; .*fix: use the same data set"),
        ({"position": 50}, r"must lie in 0 .. and 0 .. 49, got 0 and 50"),
        ({"epoch": -1}, "got -1 and 0"),
        ({"epoch": 1.0}, "`epoch` must be an integer"),
        ({"position": True}, "`position` must be an integer"),
        ({"position": 5}, "position 5 is not between two batches of 16 images"),
    ],
)
def test_bad_states(change: dict[str, Any], message: str) -> None:
    with Loader(Noise(), 16, crop=7, drop_last=True) as loader:
        with pytest.raises(DataError, match=message):
            loader.set_state({**loader.state(), **change})
        with pytest.raises(DataError, match="`epoch` must be an integer"):
            loader.set_state({})


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_error_while_loading_is_raised_at_its_batch(workers: int) -> None:
    noise = Noise()
    noise.fail_at = 33
    with Loader(noise, 10, shuffle=False, crop=7, workers=workers, prefetch=3) as loader:
        assert [loader.next_batch().step for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(
                DataError, match="batch 3 of epoch 0 could not be loaded: RuntimeError: the disk"
            ) as caught:
                loader.next_batch()
            assert isinstance(caught.value.__cause__, RuntimeError)
        noise.fail_at = None
        loader.set_state(loader.state())  # a cursor clears the error: the batch is tried again
        assert loader.next_batch().labels.tolist() == list(range(30, 40))


def test_kept_batches_stay_as_they_were() -> None:
    noise = Noise()
    with Loader(noise, 16, crop=7) as loader:
        kept = [*loader, *loader]
        copies = [batch.images.copy() for batch in kept]
        views = [batch.images[1:, :, ::2] for batch in [*loader]]
        later = [view.copy() for view in views]
        for _ in range(20):
            loader.next_batch()
    for batch, copy in zip(kept, copies):
        np.testing.assert_array_equal(batch.images, copy)
    for view, copy in zip(views, later):
        np.testing.assert_array_equal(view, copy)


def test_memory_is_used_again() -> None:
    with Loader(Noise(), 16, crop=7, prefetch=2, workers=2) as loader:
        addresses = set()
        for _ in range(60):
            batch = loader.next_batch()
            addresses.add(batch.images.ctypes.data)
        # two made ahead, one in use, one just left, and what a worker is about to let go
        assert len(addresses) <= 6
        assert all(address % 4096 == 0 for address in addresses)


def test_no_more_than_prefetch_batches_are_made_ahead() -> None:
    noise = Noise()
    with Loader(noise, 5, crop=7, prefetch=3) as loader:
        loader.next_batch()
        assert wait_until(lambda: noise.reads == 4)
        time.sleep(0.1)
        assert noise.reads == 4


def test_threads_end_with_the_loader() -> None:
    gc.collect()
    assert wait_until(lambda: not loader_threads())
    loader = Loader(Noise(), 5, crop=7, workers=2)
    assert loader_threads() == []  # none before the first batch
    for _ in loader:
        break
    assert loader_threads()
    loader.close()
    assert loader_threads() == []
    loader.close()
    with pytest.raises(ArgumentError, match="it is closed"):
        loader.next_batch()


def test_threads_end_when_the_consumer_forgets_the_loader() -> None:
    loader = Loader(Noise(), 5, crop=7, workers=2)
    for _ in loader:
        break
    assert loader_threads()
    del loader
    gc.collect()
    assert wait_until(lambda: not loader_threads())


def test_threads_end_when_the_consumer_raises() -> None:
    def train() -> None:
        with Loader(Noise(), 5, crop=7) as loader:
            for _ in loader:
                raise KeyError("a bug in the training loop")

    with pytest.raises(KeyError):
        train()
    assert loader_threads() == []


def test_loading_overlaps_computing() -> None:
    noise = Noise(40)
    noise.seconds = 0.03
    with Loader(noise, 4, crop=7, workers=0) as loader:
        for _ in loader:
            pass
        serial = loader.wait_seconds
    assert serial > 0.29
    with Loader(noise, 4, crop=7) as loader:
        for _ in loader:
            time.sleep(0.04)
        assert loader.wait_seconds < serial / 2


def test_after_a_fork_it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(Noise(), 5, crop=7, workers=0)
    monkeypatch.setattr("os.getpid", lambda: -5)
    with pytest.raises(ArgumentError, match=r"(?s)threads do not survive a fork.*fix: make the"):
        loader.next_batch()


def test_augment_objects_are_taken_as_they_are() -> None:
    augment = Augment(7, seed=8, mirror=False)
    with Loader(Noise(), 50, seed=1, shuffle=False, augment=augment) as loader:
        batch = loader.next_batch()
    noise = Noise()
    expected = augment(noise.images, np.arange(50), 0, mean=noise.mean_image)
    np.testing.assert_array_equal(batch.images, expected)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"batch": 0}, ArgumentError, "batch must be an integer of at least 1, got 0"),
        ({"batch": 2.0}, ArgumentError, "batch must be an integer of at least 1, got 2.0"),
        ({"prefetch": 0}, ArgumentError, "prefetch must be an integer of at least 1"),
        ({"workers": -1}, ArgumentError, "workers must be an integer of at least 0"),
        ({"rank": 2, "ranks": 2}, ArgumentError, "rank must be below ranks=2, got 2"),
        ({"seed": -1}, ArgumentError, "seed must lie in"),
        ({"crop": 11}, ArgumentError, "(?s)crop must be at most the image size 10, got 11.*fix"),
        ({"crop": None}, ArgumentError, "crop must be at most the image size 10, got 227"),
        ({"augment": Augment(5)}, ArgumentError, "crop=7 contradicts augment.crop=5"),
        ({"augment": "yes"}, ArgumentError, "augment must be a bool or an Augment, got 'yes'"),
        ({"batch": 51, "drop_last": True}, ArgumentError, "(?s)50 images do not fill one.*fix"),
        ({"dataset": Noise(0)}, DataError, "the data set is empty"),
    ],
)
def test_arguments(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Loader(**{"dataset": Noise(), "batch": 16, "crop": 7, **options})


def test_digits_and_shards_go_through(prepared) -> None:
    with Loader(digits(32), 64, crop=28) as loader:
        batch = loader.next_batch()
    assert batch.images.shape == (64, 3, 28, 28)
    dataset = open_dataset(prepared)
    with Loader(dataset, 8, crop=4, augment=False, shuffle=False) as loader:
        images = np.concatenate([batch.images for batch in loader])
    np.testing.assert_array_equal(images, dataset.read(range(30))[0] - dataset.mean_image)


def test_a_damaged_shard_surfaces_with_its_name(prepared) -> None:
    (prepared / "train-00003.npy").write_bytes(b"bad")
    with Loader(open_dataset(prepared), 8, crop=4, shuffle=False) as loader:
        for _ in range(3):
            loader.next_batch()
        with pytest.raises(DataError, match=r"batch 3 .*train-00003.npy is not a .npy file"):
            loader.next_batch()
