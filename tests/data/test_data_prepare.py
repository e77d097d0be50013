"""Folders of images to shards: content, order, splits, mean, and what is skipped or refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from symgraph.data import load_image, open_dataset, prepare
from symgraph.errors import ArgumentError, DataError, DataMissingError

Image = pytest.importorskip("PIL.Image")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stored(folder: Path, split: str) -> list[tuple[int, tuple[int, ...]]]:
    """Return (label, colour) of each image of a split, read with plain NumPy."""
    table = json.loads((folder / "index.json").read_text())["splits"][split]
    images = np.concatenate(
        [np.load(folder / shard["file"], allow_pickle=False) for shard in table["shards"]]
    )
    labels = np.load(folder / table["labels"]["file"], allow_pickle=False)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    assert (images == images[:, :, :1, :1]).all()
    return [(int(y), tuple(int(v) for v in x[:, 0, 0])) for x, y in zip(images, labels)]


def test_every_image_is_stored_once_with_its_label(make_source, colour, tmp_path: Path) -> None:
    report = prepare(make_source(), tmp_path / "set", 4, shard_images=7, validation=0.25)
    assert report.classes == ["class0", "class1", "class2"]
    assert report.counts == {"train": 27, "validation": 9}
    found = stored(tmp_path / "set", "train") + stored(tmp_path / "set", "validation")
    expected = [(c, colour(c, k)) for c, count in enumerate((12, 9, 15)) for k in range(count)]
    assert sorted(found) == sorted(expected)
    held_out = [label for label, _ in stored(tmp_path / "set", "validation")]
    assert np.bincount(held_out).tolist() == [3, 2, 4]  # a quarter of each class, rounded


def test_the_order_is_shuffled_once_by_seed(make_source, tmp_path: Path) -> None:
    source = make_source()
    for name, seed, jobs in (("a", 1, 1), ("b", 1, 3), ("c", 2, 2)):
        prepare(source, tmp_path / name, 4, shard_images=7, seed=seed, jobs=jobs)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    order = stored(tmp_path / "a", "train")
    assert order != sorted(order)
    assert order != stored(tmp_path / "c", "train")


def test_the_order_of_the_folder_does_not_matter(make_source, tmp_path: Path) -> None:
    source, copy = make_source(), tmp_path / "copy"
    for path in sorted(source.rglob("*.png"), reverse=True):
        target = copy / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    prepare(source, tmp_path / "a", 4)
    prepare(copy, tmp_path / "b", 4)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_mean_image_is_that_of_the_training_split(noise_source: Path, tmp_path: Path) -> None:
    prepare(noise_source, tmp_path / "set", 9, shard_images=4, validation=0.2)
    table = json.loads((tmp_path / "set" / "index.json").read_text())["splits"]["train"]
    images = np.concatenate([np.load(tmp_path / "set" / s["file"]) for s in table["shards"]])
    mean = np.load(tmp_path / "set" / "mean.npy", allow_pickle=False)
    assert mean.dtype == np.float32
    expected = images.astype(np.float64).sum(axis=0) / len(images)
    np.testing.assert_array_equal(mean, expected.astype(np.float32))


def test_mean_does_not_overflow(tmp_path: Path) -> None:
    (tmp_path / "source" / "white").mkdir(parents=True)
    for number in range(300):
        Image.new("L", (1, 1), 255).save(tmp_path / "source" / "white" / f"{number}.png")
    prepare(tmp_path / "source", tmp_path / "set", 2, validation=0.0)
    assert (np.load(tmp_path / "set" / "mean.npy") == 255).all()
    assert not (tmp_path / "set" / "validation-labels.npy").exists()


def test_pixels_are_those_of_load_image(noise_source: Path, tmp_path: Path) -> None:
    prepare(noise_source, tmp_path / "set", 12, validation=0.0, keep_aspect=True)
    expected = {
        load_image(path, 12, keep_aspect=True).tobytes() for path in noise_source.rglob("*.jpg")
    }
    images, _ = open_dataset(tmp_path / "set").read(range(23))
    assert {image.tobytes() for image in images} == expected
    assert open_dataset(tmp_path / "set").index.keep_aspect


@pytest.mark.parametrize("folder", ["val", "validation"])
def test_given_splits_are_kept(make_source, colour, tmp_path: Path, folder: str) -> None:
    source = make_source("source/train", (4, 5))
    make_source(f"source/{folder}", (2, 0))
    make_source("source/test", (3,))
    report = prepare(source.parent, tmp_path / "set", 4)
    assert report.counts == {"train": 9, "validation": 2}
    assert report.ignored == ["test/"]
    assert sorted(stored(tmp_path / "set", "validation")) == [(0, colour(0, 0)), (0, colour(0, 1))]


def test_train_folder_alone_is_split(make_source, tmp_path: Path) -> None:
    source = make_source("source/train", (10, 20))
    report = prepare(source.parent, tmp_path / "set", 4)
    assert report.counts == {"train": 27, "validation": 3}


def test_a_class_may_be_called_train(make_source, tmp_path: Path) -> None:
    source = make_source("source", (3, 3))
    (source / "class0").rename(source / "train")
    assert prepare(source, tmp_path / "set", 4).classes == ["class1", "train"]


def test_bad_files_are_skipped_and_named(make_source, tmp_path: Path) -> None:
    source = make_source("source", (6, 6))
    (source / "class0" / "zero.jpg").touch()
    (source / "class0" / "text.png").write_text("hello")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(noise).save(source / "class1" / "cut.png")
    os.truncate(source / "class1" / "cut.png", 900)
    (source / "class1" / "notes.txt").write_text("not an image by its name")
    (source / "class1" / "gone.png").symlink_to(source / "class1" / "nothing.png")
    os.mkfifo(source / "class0" / "pipe.png")
    report = prepare(source, tmp_path / "set", 4, validation=0.0)
    assert report.counts == {"train": 12}
    reasons = {item.file: item.reason for item in report.skipped}
    assert reasons.keys() == {
        "class0/zero.jpg",
        "class0/text.png",
        "class0/pipe.png",
        "class1/cut.png",
        "class1/gone.png",
    }
    assert reasons["class0/zero.jpg"] == "is empty (zero bytes)"
    assert reasons["class0/text.png"] == "is not an image in a known format"
    assert reasons["class0/pipe.png"] == "is not a regular file"
    assert reasons["class1/cut.png"].startswith("is damaged: ")
    assert reasons["class1/gone.png"] == "cannot be read: No such file or directory"
    assert report.ignored == ["class1/notes.txt"]
    assert {item.file for item in open_dataset(tmp_path / "set").index.skipped} == reasons.keys()


def test_skipped_files_do_not_shift_labels(make_source, colour, tmp_path: Path) -> None:
    source = make_source("source", (20, 20))
    for number in range(0, 20, 2):
        (source / "class0" / f"{number:03d}.png").write_bytes(b"bad")
    prepare(source, tmp_path / "set", 4, shard_images=3, validation=0.0, jobs=2)
    expected = [(0, colour(0, k)) for k in range(1, 20, 2)]
    expected += [(1, colour(1, k)) for k in range(20)]
    assert sorted(stored(tmp_path / "set", "train")) == expected


def test_nested_folders_and_capital_suffixes(tmp_path: Path) -> None:
    folder = tmp_path / "source" / "cat" / "deep" / "deeper"
    folder.mkdir(parents=True)
    Image.new("L", (3, 3), 9).save(folder / "A.JPEG")
    Image.new("L", (3, 3), 9).save(folder.parent / "B.PNG")
    Image.new("L", (3, 3), 9).save(folder.parent / ".hidden.png")
    assert prepare(tmp_path / "source", tmp_path / "set", 4, validation=0).counts == {"train": 2}


def refused(message: str, *arguments: object, **options: object) -> None:
    with pytest.raises(DataError, match=message):
        prepare(*arguments, **options)  # type: ignore[arg-type]


def test_sources_that_cannot_be_used(make_source, tmp_path: Path, hidden) -> None:
    out = tmp_path / "set"
    with pytest.raises(DataMissingError, match=r"source folder .*nowhere does not exist"):
        prepare(tmp_path / "nowhere", out)
    (tmp_path / "file").write_text("")
    refused("is not a folder", tmp_path / "file", out)
    (tmp_path / "bare").mkdir()
    Image.new("L", (3, 3)).save(tmp_path / "bare" / "a.png")
    refused("(?s)has no class folders.*fix: put the images of each class", tmp_path / "bare", out)
    source = make_source("source", (3, 3))
    (source / "nobody").mkdir()
    refused("1 classes have no images to train on: nobody", source, out)
    (source / "nobody" / "a.png").write_bytes(b"bad")
    refused(r"(?s)training images of 1 classes \(nobody\).*nobody/a.png: is not", source, out)
    (tmp_path / "all" / "bad").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "all" / "bad" / f"{number}.png").write_bytes(b"bad")
    refused("None of the train images could be read", tmp_path / "all", out)
    assert not out.exists()
    assert hidden(tmp_path) == []


def test_splits_that_contradict_each_other(make_source, tmp_path: Path) -> None:
    source = make_source("source/train", (3,)).parent
    make_source("source/val", (2, 2))
    refused("val/ has classes that train/ does not have: class1", source, tmp_path / "set")
    with pytest.raises(ArgumentError, match=r"has its own val/ folder; validation=0.1 cannot"):
        prepare(source, tmp_path / "set", validation=0.1)
    make_source("source/validation", (2,))
    refused("has both val/ and validation/", source, tmp_path / "set")


def test_links_that_leave_the_source_are_refused(make_source, tmp_path: Path) -> None:
    source, other = make_source("source", (3, 3)), make_source("other", (2,))
    link = source / "class0" / "link.png"
    link.symlink_to(other / "class0" / "000.png")
    refused(r"(?s)link.png is a symbolic link that leaves the source", source, tmp_path / "set")
    link.unlink()
    (source / "class2").symlink_to(other / "class0")
    refused("class2 is a symbolic link that leaves the source", source, tmp_path / "set")
    (source / "class2").unlink()
    (source / "class0" / "loop").symlink_to(source)
    refused("loop is a symbolic link to a folder, which is not followed", source, tmp_path / "set")
    (source / "class0" / "loop").unlink()
    link.symlink_to(source / "class1" / "000.png")
    assert prepare(source, tmp_path / "set", validation=0).counts == {"train": 7}
    (tmp_path / "door").symlink_to(source)  # the source itself may be a link
    assert prepare(tmp_path / "door", tmp_path / "set2", validation=0).counts == {"train": 7}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be an integer in 1 .. 4096, got 0"),
        ({"shard_images": 0}, "shard_images must be a positive integer, got 0"),
        ({"jobs": -1}, "jobs must be a positive integer, got -1"),
        ({"size": 4096, "shard_images": 256}, "(?s)A shard of 256 images.*fix: pass shard_images"),
        ({"validation": 1.0}, r"validation must be a fraction in \[0, 1\), got 1.0"),
        ({"validation": float("nan")}, "validation must be a fraction"),
        ({"seed": -1}, "seed must lie in"),
    ],
)
def test_arguments(make_source, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        prepare(make_source(), tmp_path / "set", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


def test_progress_counts_every_file(make_source, tmp_path: Path) -> None:
    source = make_source("source", (6, 6))
    (source / "class0" / "zero.jpg").touch()
    seen: list[tuple[int, int]] = []
    prepare(source, tmp_path / "set", 4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 13) for done in range(1, 14)]


def test_too_many_skipped_files_for_an_index(make_source, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("symgraph.data.index.MAX_INDEX_BYTES", 500)
    refused("The index would have .* more than the bound of 500", make_source(), tmp_path / "set")
    assert not (tmp_path / "set").exists()
