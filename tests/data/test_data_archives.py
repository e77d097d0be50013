"""CIFAR and MNIST as published: files written here byte by byte as their authors describe them."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.data import Dataset, Loader, open_archive
from symgraph.data.archives import is_archive
from symgraph.errors import ArgumentError, DataError, DataMissingError


def pictures(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def cifar_10(folder: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Write five files of four images and one of three; give those to train on."""
    folder.mkdir()
    images, labels = pictures(rng, 20), rng.integers(0, 10, 20).astype(np.uint8)
    for number in range(5):
        part = range(4 * number, 4 * number + 4)
        data = b"".join(bytes([labels[i]]) + images[i].tobytes() for i in part)
        (folder / f"data_batch_{number + 1}.bin").write_bytes(data)
    last = b"".join(bytes([i]) + images[i].tobytes() for i in range(3))
    (folder / "test_batch.bin").write_bytes(last)
    (folder / "batches.meta.txt").write_text("\n".join(f"name{i}" for i in range(10)) + "\n\n")
    return images, labels


def cifar_100(folder: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Write images with two labels each, of which the second is the fine one."""
    folder.mkdir()
    images, labels = pictures(rng, 6), rng.integers(0, 100, 6).astype(np.uint8)
    data = b"".join(bytes([199, labels[i]]) + images[i].tobytes() for i in range(6))
    (folder / "train.bin").write_bytes(data)
    (folder / "test.bin").write_bytes(data[: 2 * 3074])
    return images, labels


def idx(array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def mnist(folder: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Write grey images, those to train on packed and those to validate with as they are."""
    folder.mkdir()
    images = rng.integers(0, 256, (7, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 7).astype(np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        (folder / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
        (folder / f"t10k-{name}-ubyte").write_bytes(idx(array[:2]))
    return np.repeat(images[:, None], 3, axis=1), labels


SETS = {"CIFAR-10": cifar_10, "CIFAR-100": cifar_100, "MNIST": mnist}


@pytest.mark.parametrize("kind", SETS)
def test_images_and_labels_are_read(kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    images, labels = SETS[kind](tmp_path / "set", rng)
    train = open_archive(tmp_path / "set")
    assert isinstance(train, Dataset)
    assert (train.kind, train.image_size, len(train)) == (kind, images.shape[-1], len(images))
    order = rng.permutation(len(images))
    for found, wanted in zip(train.read(order), (images[order], labels[order])):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(train.mean_image, images.mean(axis=0), rtol=1e-6)
    held_out = open_archive(tmp_path / "set", "validation")
    assert len(held_out) == (3 if kind == "CIFAR-10" else 2)
    np.testing.assert_array_equal(held_out.mean_image, train.mean_image)
    assert train.mirror == (kind != "MNIST")
    again = pickle.loads(pickle.dumps(held_out))
    np.testing.assert_array_equal(again.read([1])[0], held_out.read([1])[0])
    assert str(kind) in repr(again)


def test_names_of_classes_where_there_are_any(rng: np.random.Generator, tmp_path: Path) -> None:
    cifar_10(tmp_path / "ten", rng)
    cifar_100(tmp_path / "hundred", rng)
    assert open_archive(tmp_path / "ten").classes == [f"name{i}" for i in range(10)]
    assert open_archive(tmp_path / "hundred").classes[-1] == "99"


def test_a_tar_file_is_read_where_it_lies(rng: np.random.Generator, tmp_path: Path) -> None:
    images, _ = cifar_10(tmp_path / "cifar-10-batches-bin", rng)
    whole = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(whole, "w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-bin", "cifar-10-batches-bin")
    assert is_archive(whole)
    np.testing.assert_array_equal(open_archive(whole).read([19])[0][0], images[19])
    assert open_archive(whole, "validation").classes[3] == "name3"


def test_batches_are_made_of_it(rng: np.random.Generator, tmp_path: Path) -> None:
    mnist(tmp_path / "set", rng)
    with Loader(open_archive(tmp_path / "set"), 3, crop=28, augment=False) as loader:
        assert next(iter(loader)).images.shape == (3, 3, 28, 28)


def test_what_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert not is_archive(tmp_path / "empty")
    assert not is_archive("digits")
    with pytest.raises(DataError, match="is none of CIFAR-10, CIFAR-100, MNIST"):
        open_archive(tmp_path / "empty")
    with pytest.raises(DataMissingError, match="does not exist"):
        open_archive(tmp_path / "nowhere")
    (tmp_path / "text.tar.gz").write_text("no tar file")
    with pytest.raises(DataError, match="no tar file, or a damaged one"):
        open_archive(tmp_path / "text.tar.gz")
    with pytest.raises(ArgumentError, match="split must be one of train, validation"):
        open_archive(tmp_path / "empty", "test")


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", refuse)
    assert not is_archive(tmp_path)
    with pytest.raises(DataError, match=r"cannot be read: Permission denied\."):
        open_archive(tmp_path)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "data_batch_1").write_bytes(pickle.dumps({}))
    assert is_archive(tmp_path / "python")
    with pytest.raises(DataError, match=r"(?s)pickles, which run programs.*binary version"):
        open_archive(tmp_path / "python")


@pytest.mark.parametrize(
    ("kind", "name", "data", "match"),
    [
        ("CIFAR-10", "data_batch_2.bin", b"1234", "4 bytes are not whole images of 3073"),
        ("CIFAR-10", "data_batch_2.bin", b"", "0 bytes are not whole images"),
        ("CIFAR-10", "data_batch_2.bin", bytes([10]) * 3073, "labels must lie in 0 .. 9, got 10"),
        ("CIFAR-100", "train.bin", bytes(3073), "3073 bytes are not whole images of 3074"),
        ("MNIST", "train-labels-idx1-ubyte", b"abc", "begins with other bytes"),
        ("MNIST", "train-labels-idx1-ubyte", idx(np.zeros(3, np.uint8)), "7 images have 3 labels"),
        ("MNIST", "train-labels-idx1-ubyte", idx(np.zeros(7, np.uint8))[:-1], "are the sizes of 6"),
        ("MNIST", "train-images-idx3-ubyte", idx(np.zeros((7, 2, 3), np.uint8)), "must be square"),
        ("MNIST", "train-images-idx3-ubyte",
         bytes((0, 0, 8, 3)) + struct.pack(">3I", 1 << 31, 1 << 31, 4) + b"x", "are the sizes of"),
    ],
)  # fmt: skip
def test_damaged_files_say_which(
    kind: str, name: str, data: bytes, match: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    SETS[kind](tmp_path / "set", rng)
    (tmp_path / "set" / name).write_bytes(data)
    with pytest.raises(DataError, match=match):
        open_archive(tmp_path / "set")


def test_missing_and_broken_files_say_which(rng: np.random.Generator, tmp_path: Path) -> None:
    cifar_10(tmp_path / "ten", rng)
    (tmp_path / "ten" / "data_batch_4.bin").unlink()
    with pytest.raises(DataMissingError, match=r"data_batch_4.bin is missing: CIFAR-10, train"):
        open_archive(tmp_path / "ten")
    mnist(tmp_path / "grey", rng)
    packed = tmp_path / "grey" / "train-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:40])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        open_archive(tmp_path / "grey")


def test_a_packed_tar_file_is_compared_with_its_sum(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    cifar_10(tmp_path / "set", rng)
    whole = tmp_path / "set.tar.gz"
    with tarfile.open(whole, "w:gz") as tar:
        tar.add(tmp_path / "set", "set")
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 1  # noise is packed as it is: only the sum tells
    whole.write_bytes(data)
    with pytest.raises(DataError, match="is no tar file, or a damaged one: CRC check failed"):
        open_archive(whole)


def header(name: str, size: int, kind: bytes) -> bytes:
    """A header of a tar file which says that so many bytes follow."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (tarfile.REGTYPE, "has more than 1073741824 bytes, unpacked"),
        (tarfile.XHDTYPE, "8589934592 bytes in one piece"),
        (tarfile.GNUTYPE_LONGNAME, "8589934592 bytes in one piece"),
    ],
)
def test_a_tar_file_that_would_fill_the_memory(kind: bytes, match: str, tmp_path: Path) -> None:
    whole = tmp_path / "set.tar.gz"
    whole.write_bytes(gzip.compress(header("train.bin", 8 << 30, kind) + bytes(1 << 16)))
    with pytest.raises(DataError, match=match):
        open_archive(whole)


@pytest.mark.parametrize("mode", ["w:xz", "w:bz2"])
def test_other_packings_are_not_opened(mode: Any, rng: np.random.Generator, tmp_path: Path) -> None:
    cifar_10(tmp_path / "set", rng)
    with tarfile.open(tmp_path / "set.tar", mode) as tar:
        tar.add(tmp_path / "set", "set")
    assert not is_archive(tmp_path / "set.tar")


def test_links_in_a_tar_file_are_not_followed(rng: np.random.Generator, tmp_path: Path) -> None:
    whole = tmp_path / "set.tar"
    with tarfile.open(whole, "w") as tar:
        link = tarfile.TarInfo("x/train.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        held = tarfile.TarInfo("x/other")
        held.size = 3
        tar.addfile(held, io.BytesIO(b"abc"))
    with pytest.raises(DataError, match="is none of"):
        open_archive(whole)
