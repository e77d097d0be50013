"""Prepared data sets: reading them back, and refusing every damaged or hostile one."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.data import Dataset, ShardedDataset, check_dataset, open_dataset, prepare
from symgraph.errors import ArgumentError, ArgumentTypeError, DataError, DataMissingError

Table = dict[str, Any]


def edit(folder: Path, change: Callable[[Table], object]) -> None:
    table = json.loads((folder / "index.json").read_text())
    change(table)
    (folder / "index.json").write_text(json.dumps(table))


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and its checksum, as an attacker would."""
    old = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / name).write_bytes(data)
    text = (folder / "index.json").read_text()
    assert old in text
    (folder / "index.json").write_text(text.replace(old, hashlib.sha256(data).hexdigest()))


def npy(array: np.ndarray, tmp_path: Path) -> bytes:
    np.save(tmp_path / "x.npy", array)
    return (tmp_path / "x.npy").read_bytes()


def test_reads_what_the_files_hold(prepared: Path) -> None:
    for split, count in (("train", 30), ("validation", 6)):
        dataset = open_dataset(prepared, split)
        assert isinstance(dataset, Dataset)
        shards = [np.load(path) for path in sorted(prepared.glob(f"{split}-0*.npy"))]
        expected = np.concatenate(shards)
        assert [len(shard) for shard in shards] == ([8, 8, 8, 6] if count == 30 else [6])
        labels = np.load(prepared / f"{split}-labels.npy")
        order = np.random.default_rng(0).permutation(count)
        images, found = dataset.read(order)
        np.testing.assert_array_equal(images, expected[order])
        np.testing.assert_array_equal(found, labels[order])
        assert (images.dtype, found.dtype) == (np.uint8, np.int32)
        assert len(dataset) == count


def test_members(prepared: Path) -> None:
    dataset = open_dataset(prepared)
    assert dataset.classes == ["class0", "class1", "class2"]
    assert dataset.image_size == 4
    np.testing.assert_array_equal(dataset.mean_image, np.load(prepared / "mean.npy"))
    assert "train: 30 images of 3 x 4 x 4, 3 classes" in repr(dataset)
    assert [array.shape for array in dataset.read([])] == [(0, 3, 4, 4), (0,)]
    images, _ = dataset.read([5, 5])
    images[0] = 0  # a copy: neither the file nor the other image changes
    assert (images[1] == dataset.read([5])[0]).all()


def test_survives_pickling_for_spawned_processes(prepared: Path) -> None:
    dataset = open_dataset(prepared, "validation", verify=False)
    dataset.read([0])
    copy = pickle.loads(pickle.dumps(dataset))
    assert (copy.split, copy.verify) == ("validation", False)
    np.testing.assert_array_equal(copy.read([3])[0], dataset.read([3])[0])


def test_many_threads_read_the_same(prepared: Path) -> None:
    dataset, results = open_dataset(prepared), []
    threads = [
        threading.Thread(target=lambda: results.append(dataset.read(range(30))[0].tobytes()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert len(set(results)) == 1


@pytest.mark.parametrize(
    ("indices", "kind", "message"),
    [
        ([30], ArgumentError, "indices must lie in 0 .. 29, got 30 .. 30"),
        ([-1, 2], ArgumentError, "indices must lie in 0 .. 29, got -1 .. 2"),
        ([[0, 1]], ArgumentError, r"one dimension, got shape \(1, 2\)"),
        ([0.5], ArgumentTypeError, "indices must be integers, got dtype float64"),
        ([True], ArgumentTypeError, "indices must be integers, got dtype bool"),
    ],
)
def test_indices(prepared: Path, indices: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        open_dataset(prepared).read(indices)


def test_missing(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match=r"(?s)no data set at .*nowhere.*fix: python -m"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no index.json"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        open_dataset(prepared / "index.json")
    with pytest.raises(ArgumentError, match="split must be one of train, validation, got 'test'"):
        open_dataset(prepared, "test")
    edit(prepared, lambda table: table["splits"].pop("validation"))
    with pytest.raises(DataError, match="has no validation split; it has train"):
        open_dataset(prepared, "validation")
    (prepared / "train-labels.npy").unlink()
    with pytest.raises(DataMissingError, match=r"train-labels.npy does not exist, though"):
        open_dataset(prepared)


def test_a_missing_shard_is_named_when_it_is_read(prepared: Path) -> None:
    (prepared / "train-00002.npy").unlink()
    dataset = open_dataset(prepared)
    dataset.read([15, 24])
    with pytest.raises(DataMissingError, match=r"train-00002.npy does not exist"):
        dataset.read([16])


def test_a_tampered_shard_is_named_with_both_checksums(prepared: Path) -> None:
    path = prepared / "train-00001.npy"
    data = bytearray(path.read_bytes())
    expected = hashlib.sha256(data).hexdigest()
    data[-7] ^= 1
    path.write_bytes(data)
    got = hashlib.sha256(data).hexdigest()
    dataset = open_dataset(prepared)
    dataset.read([0, 7, 16])  # the other shards are good
    for _ in range(2):
        with pytest.raises(DataError, match=rf"(?s)train-00001.npy is damaged.*{expected}.*{got}"):
            dataset.read([8])
    assert open_dataset(prepared, verify=False).read([8])[0].shape == (1, 3, 4, 4)
    (problem,) = check_dataset(prepared)
    assert "train-00001.npy is damaged" in problem


@pytest.mark.parametrize("name", ["train-labels.npy", "mean.npy"])
def test_small_files_are_checked_at_once(prepared: Path, name: str) -> None:
    data = bytearray((prepared / name).read_bytes())
    data[-4] ^= 1
    (prepared / name).write_bytes(data)
    with pytest.raises(DataError, match=f"{name} is damaged"):
        open_dataset(prepared, verify=False)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.npy",
        "/etc/passwd",
        "a/../../outside.npy",
        "sub/x.npy",
        "..",
        "",
        ".hidden.npy",
        "C:\\x.npy",
        "x\0.npy",
        "index.json",
        "x.npy\n",
        "é.npy",
        7,
        None,
    ],
)
@pytest.mark.parametrize("where", ["mean", "labels", "shard"])
def test_paths_cannot_leave_the_folder(
    prepared: Path, name: object, where: str, tmp_path: Path
) -> None:
    (tmp_path / "outside.npy").write_bytes((prepared / "train-00000.npy").read_bytes())

    def change(table: Table) -> None:
        split = table["splits"]["train"]
        entry = {"mean": table["mean"], "labels": split["labels"], "shard": split["shards"][0]}
        entry[where]["file"] = name

    edit(prepared, change)
    with pytest.raises(DataError, match="`file` must be"):
        open_dataset(prepared)


@pytest.mark.parametrize("name", ["train-00000.npy", "train-labels.npy", "mean.npy", "index.json"])
def test_links_and_pipes_are_refused(prepared: Path, name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (prepared / name).rename(outside)
    (prepared / name).symlink_to(outside)
    with pytest.raises(DataError, match=f"{name} is a symbolic link"):
        open_dataset(prepared).read([0])
    (prepared / name).unlink()
    os.mkfifo(prepared / name)
    with pytest.raises(DataError, match=f"{name} is not a regular file"):
        open_dataset(prepared).read([0])


def train(table: Table) -> Table:
    split: Table = table["splits"]["train"]
    return split


HOSTILE = {
    "newer": (lambda t: t.update(format=2), "(?s)has format 2; .*fix: install a newer symgraph"),
    "older": (lambda t: t.update(format=0), "(?s)has format 0; .*fix: prepare the data set"),
    "format text": (lambda t: t.update(format="1"), "`format` must be of type int, got str"),
    "format bool": (lambda t: t.update(format=True), "`format` must be of type int, got bool"),
    "no format": (lambda t: t.pop("format"), "`format` is missing"),
    "other kind": (lambda t: t.update(kind="x"), "is not the index of a symgraph data set"),
    "huge size": (lambda t: t.update(image_size=10**9), "`image_size` must lie in 1 .. 4096"),
    "zero size": (lambda t: t.update(image_size=0), "`image_size` must lie in 1 .. 4096"),
    "float size": (lambda t: t.update(image_size=4.0), "`image_size` must be of type int"),
    "no classes": (lambda t: t.update(classes=[]), "`classes` must be a list of different"),
    "twice": (lambda t: t.update(classes=["a", "a", "b"]), "`classes` must be a list of diff"),
    "class 7": (lambda t: t.update(classes=["a", "b", 7]), "every class must be a name"),
    "no splits": (lambda t: t.update(splits={}), "`splits` must hold `train`"),
    "odd split": (lambda t: t["splits"].update(test={}), "`splits` must hold `train`"),
    "split list": (lambda t: t["splits"].update(train=[]), "train must be an object, got list"),
    "empty split": (lambda t: train(t).update(count=0), "`count` must lie in 1 .."),
    "no shards": (lambda t: train(t).update(shards=[]), "30 labels, 0 images in 0 shards"),
    "count": (lambda t: train(t).update(count=31), "do not add up: 31 images, 30 labels, 30"),
    "labels": (lambda t: train(t)["labels"].update(count=29), "30 images, 29 labels"),
    "shard": (lambda t: train(t)["shards"][0].update(count=9), "31 images in 4 shards"),
    "negative": (lambda t: train(t)["shards"][0].update(count=-8), "`count` must lie in 1 .."),
    "huge": (lambda t: train(t)["shards"][0].update(count=2**80), "`count` must lie in 1 .."),
    "same file": (lambda t: train(t)["shards"].__setitem__(1, train(t)["shards"][0]), "twice"),
    "sha": (lambda t: t["mean"].update(sha256="0"), "`sha256` must be 64 hexadecimal digits"),
    "skipped": (lambda t: t.update(skipped=[1]), "must be an object, got int"),
    "mean count": (lambda t: t["mean"].update(count=2), "mean: `count` must be 1"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_index(prepared: Path, case: str) -> None:
    change, message = HOSTILE[case]
    edit(prepared, change)
    with pytest.raises(DataError, match=message):
        open_dataset(prepared)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[1]", b"null", b'{"format": ' + b"9" * 5000 + b"}"],
)
def test_index_that_is_no_index(prepared: Path, data: bytes) -> None:
    (prepared / "index.json").write_bytes(data)
    with pytest.raises(DataError, match=r"index.json"):
        open_dataset(prepared)


def test_index_of_unbounded_size(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symgraph.data.index.MAX_INDEX_BYTES", 100)
    with pytest.raises(DataError, match="has more than 100 bytes"):
        open_dataset(prepared)


def test_counts_that_add_up_but_lie(prepared: Path) -> None:
    def swap(table: Table) -> None:
        train(table)["shards"][0]["count"] = 7
        train(table)["shards"][1]["count"] = 9

    edit(prepared, swap)
    with pytest.raises(DataError, match=r"(?s)train-00000.npy does not hold.*\(7, .*file:.*\(8, "):
        open_dataset(prepared).read([0])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 3, 4, 4), np.int8), r"(?s)index: \|u1 .*file:  \|i1"),
        (np.zeros((8, 3, 4, 4), np.float32), r"file:  <f4"),
        (np.zeros((8, 3, 5, 5), np.uint8), r"file:  \|u1 \(8, 3, 5, 5\)"),
        (np.zeros((8, 48), np.uint8), r"file:  \|u1 \(8, 48\)"),
        (np.asfortranarray(np.zeros((8, 3, 4, 4), np.uint8)), "Fortran order"),
        (np.zeros((8, 3, 4, 4), [("a", "u1")]), "header is damaged or not that of a plain"),
    ],
)
def test_shards_of_another_shape_or_dtype(
    prepared: Path, tmp_path: Path, array: np.ndarray, message: str
) -> None:
    rewrite(prepared, "train-00000.npy", npy(array, tmp_path))
    with pytest.raises(DataError, match=message):
        open_dataset(prepared).read([0])


def test_pickles_are_never_loaded(prepared: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (tmp_path / "exploded").touch, ()

    np.save(tmp_path / "x.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    rewrite(prepared, "train-00000.npy", (tmp_path / "x.npy").read_bytes())
    with pytest.raises(DataError, match="header is damaged or not that of a plain array"):
        open_dataset(prepared).read([0])
    (prepared / "train-00000.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"is not a .npy file of version 1.0"):
        open_dataset(prepared).read([0])
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("extra", [-100, -1, 1, 1000])
def test_sizes_that_the_header_does_not_promise(prepared: Path, extra: int) -> None:
    data = (prepared / "train-00000.npy").read_bytes()
    rewrite(prepared, "train-00000.npy", data[:extra] if extra < 0 else data + b"x" * extra)
    with pytest.raises(DataError, match="bytes where its header promises"):
        open_dataset(prepared, verify=False).read([0])


@pytest.mark.parametrize("length", [0, 5, 9, 40])
def test_files_cut_within_their_header(prepared: Path, length: int) -> None:
    data = (prepared / "train-00000.npy").read_bytes()
    rewrite(prepared, "train-00000.npy", data[:length])
    with pytest.raises(DataError, match=r"is not a .npy file|header is damaged"):
        open_dataset(prepared, verify=False).read([0])


@pytest.mark.parametrize("label", [-1, 3, 2**31 - 1])
def test_labels_out_of_range(prepared: Path, tmp_path: Path, label: int) -> None:
    labels = np.load(prepared / "train-labels.npy")
    labels[4] = label
    rewrite(prepared, "train-labels.npy", npy(labels, tmp_path))
    with pytest.raises(DataError, match=r"labels must lie in 0 .. 2, got"):
        open_dataset(prepared)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1, 256])
def test_mean_out_of_range(prepared: Path, tmp_path: Path, value: float) -> None:
    mean = np.load(prepared / "mean.npy")
    mean[0, 0, 0] = value
    rewrite(prepared, "mean.npy", npy(mean, tmp_path))
    with pytest.raises(DataError, match=r"mean image must lie in 0 .. 255"):
        open_dataset(prepared)


def test_check_finds_every_bad_file(prepared: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert check_dataset(prepared, lambda done, total: seen.append((done, total))) == []
    assert seen == [(done, 8) for done in range(1, 9)]
    for name in ("train-00001.npy", "validation-labels.npy", "validation-00000.npy"):
        (prepared / name).write_bytes(b"bad")
    (prepared / "train-00003.npy").unlink()
    problems = "\n".join(check_dataset(prepared))
    for name in ("train-00001", "train-00003", "validation-labels", "validation-00000"):
        assert name in problems
    assert "train-00000" not in problems


def test_class_names_of_any_text(make_source, tmp_path: Path) -> None:
    source = make_source("source", (2, 2, 2))
    (source / "class0").rename(source / "größe 猫")
    (source / "class1").rename(source / "line\nbreak\x1b[31m")
    (source / "class2").rename(source / b"latin-\xe9".decode("utf-8", "surrogateescape"))
    prepare(source, tmp_path / "set", 4, validation=0)
    names = {"größe 猫", "latin-\\xe9", "line\\nbreak\\x1b[31m"}
    assert set(ShardedDataset(tmp_path / "set").classes) == names


def test_examine_names_the_file_that_cannot_be_read(prepared: Path) -> None:
    dataset = open_dataset(prepared)
    dataset.examine(range(30))
    os.truncate(prepared / "train-00002.npy", 200)
    dataset.examine([*range(16), *range(24, 30)])  # in other files
    with pytest.raises(DataError, match=r"train-00002.npy has 200 bytes where"):
        dataset.examine([0, 16])
    (prepared / "train-00001.npy").unlink()
    with pytest.raises(DataMissingError, match=r"train-00001.npy does not exist"):
        dataset.examine([8])
    with pytest.raises(ArgumentError, match=r"examine: indices must lie in 0 .. 29"):
        dataset.examine([30])
