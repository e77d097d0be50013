"""Files that are cut, flipped or made by an enemy: refused by name, before anything is allocated.

An attacker can put the right digest on a file of his own; so the hostile ones here carry it too,
and are refused for what they say.
"""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.errors import CheckpointError, CheckpointMissingError
from symgraph.io import load_checkpoint, read_checkpoint_header, save_checkpoint

Entries = dict[str, Any]
META = {"format": "1", "kind": '"symgraph checkpoint"', "step": "1"}
PREFIX = '{"__metadata__": {"sha256": "'


@pytest.fixture
def path(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return a sound checkpoint of about 1 kB, the second in its folder."""
    tensors = {
        "w": rng.standard_normal((5, 7)).astype(np.float32),
        "steps": np.arange(9),
        "mask": rng.integers(0, 2, 11).astype(bool),
    }
    save_checkpoint(tmp_path, tensors, {"step": 1})
    return save_checkpoint(tmp_path, tensors, {"step": 2, "model": "tiny"})


def seal(header: str, body: bytes = b"") -> bytes:
    """Give the bytes of a file with this header, which has 64 zeros for its digest."""
    digest = hashlib.sha256(header.encode() + body).hexdigest()
    if header.startswith(PREFIX):
        header = PREFIX + digest + header[len(PREFIX) + 64 :]
    data = header.encode()
    return len(data).to_bytes(8, "little") + data + body


def forged(tmp_path: Path, entries: Entries, body: bytes = b"", **meta: Any) -> Path:
    """Write a file that is what it must be, but for its entries and metadata."""
    document = {"__metadata__": {"sha256": "0" * 64, **META, **meta}, **entries}
    target = tmp_path / "forged.safetensors"
    target.write_bytes(seal(json.dumps(document), body))
    return target


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def refused(path: Path, text: str) -> CheckpointError:
    """Check that a file is refused by name, in few words and without taking memory."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=text) as caught:
            load_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < (1 << 20) + 20 * path.stat().st_size
    finally:
        tracemalloc.stop()
    assert str(path) in caught.value.message
    assert len(str(caught.value)) < 2000
    return caught.value


def test_a_forged_file_that_is_sound_is_read(tmp_path: Path) -> None:
    """Without this, the tests of forged files could pass for a reason of their own."""
    body = np.array([1.5, -2.0], "<f4").tobytes()
    found = load_checkpoint(forged(tmp_path, {"w": entry()}, body, future='{"a": [1]}'))
    np.testing.assert_array_equal(found.tensors["w"], [1.5, -2.0])
    assert found.meta == {
        "format": 1, "kind": "symgraph checkpoint", "step": 1, "future": {"a": [1]},
    }  # fmt: skip


@pytest.mark.parametrize("percent", range(0, 100, 10))
def test_cut_short(path: Path, percent: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * percent // 100])
    error = refused(path, "cut short")
    assert "checkpoint-0001-step-1.safetensors" in error.fix


@pytest.mark.parametrize("cut", [1, 2, 7, 8, 9])
def test_cut_by_a_few_bytes(path: Path, cut: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    refused(path, "cut short: its tensors take")
    path.write_bytes(data[:cut])
    refused(path, "cut short")
    path.write_bytes(data + b" " * cut)
    refused(path, f"{cut} bytes follow the last tensor")


def test_a_flipped_bit_is_found_in_every_byte(path: Path) -> None:
    """In the length, the digest, the document, the entries, the padding and every array."""
    data = path.read_bytes()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value), at
    path.write_bytes(data)
    load_checkpoint(path)


def test_a_flipped_byte_in_the_body_says_so(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    refused(path, "its bytes changed after it was written: the sha256 differs|holds other bytes")
    assert read_checkpoint_header(path).meta["step"] == 2


def test_swapped_arrays_are_found(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, {"a": np.zeros(64), "b": np.ones(64)}, {"step": 1})
    data = path.read_bytes()
    half = 64 * 8
    path.write_bytes(data[: -2 * half] + data[-half:] + data[-2 * half : -half])
    refused(path, "the sha256 differs")


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, (16 << 20) + 1])
def test_a_header_that_claims_to_be_huge(tmp_path: Path, length: int) -> None:
    target = tmp_path / "huge.safetensors"
    target.write_bytes(length.to_bytes(8, "little") + b"{}" + b" " * 100)
    refused(target, f"its header claims {length} bytes, more than the 16777216 allowed")


def test_a_header_longer_than_the_file(tmp_path: Path) -> None:
    target = tmp_path / "long.safetensors"
    target.write_bytes((1000).to_bytes(8, "little") + b"{}")
    refused(target, "cut short: its header claims 1000 bytes, 2 are there")


HEADERS: dict[str, tuple[str, str]] = {
    "empty": ("", "its header is damaged"),
    "no JSON": ("hello", "its header is damaged"),
    "list": ("[]", "its header is no JSON object"),
    "number": ("1", "its header is no JSON object"),
    "two": ("{} {}", "its header is damaged: Extra data"),
    "deep": ("[" * 33 + "]" * 33, "nested more than 32 deep"),
    "very deep": ('{"a":' * 200_000, "nested more than 32 deep"),
    "unclosed quotes": ('{"a": "' + '\\"' * 200_000, "its header is damaged"),
    "NaN": ('{"a": NaN}', "NaN is no JSON number"),
    "long number": ('{"a": ' + "1" * 5000 + "}", "its header is damaged"),
    "key twice": ('{"a": 1, "a": 2}', "a key stands twice"),
    "inner key twice": ('{"a": {"dtype": "F32", "dtype": "U8"}}', "a key stands twice"),
    "escaped key twice": ('{"a": 1, "\\u0061": 2}', "a key stands twice"),
    "metadata twice": ('{"__metadata__": {}, "__metadata__": {}}', "a key stands twice"),
    "metadata list": ('{"__metadata__": []}', "its __metadata__ is no JSON object"),
    "metadata number": ('{"__metadata__": {"step": 1}}', "its metadata 'step' is no string"),
    "long key": ('{"__metadata__": {"%s": 1}}' % ("k" * 99_999), "its metadata 'kkk"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_are_none(tmp_path: Path, case: str) -> None:
    header, text = HEADERS[case]
    target = tmp_path / "hostile.safetensors"
    target.write_bytes(seal(header))
    refused(target, text)


def test_a_header_that_is_no_text(tmp_path: Path) -> None:
    target = tmp_path / "hostile.safetensors"
    target.write_bytes((4).to_bytes(8, "little") + b'"\xff\xfe"')
    refused(target, "its header is damaged: .*utf-8")


ENTRIES: dict[str, tuple[Entries, int, str]] = {
    "list": ({"w": []}, 0, "'w' needs exactly dtype, shape and data_offsets"),
    "no dtype": ({"w": {"shape": [], "data_offsets": [0, 4]}}, 4, "needs exactly dtype"),
    "more": ({"w": {**entry(), "path": "x"}}, 8, "needs exactly dtype"),
    "dtype": ({"w": entry("OBJECT")}, 8, "'w' has the unknown dtype 'OBJECT'"),
    "NumPy dtype": ({"w": entry("O8,S3")}, 8, "'w' has the unknown dtype"),
    "dtype list": ({"w": entry(["F32"])}, 8, "'w' has the unknown dtype"),
    "long dtype": ({"w": entry("x" * 99_999)}, 8, "'w' has the unknown dtype 'xxx"),
    "negative begin": ({"w": entry(offsets=(-8, 0))}, 8, "data_offsets of tensor 'w' holds -8"),
    "negative shape": ({"w": entry(shape=(-2,))}, 8, "the shape of tensor 'w' holds -2"),
    "two negatives": ({"w": entry(shape=(-2, -1))}, 8, "the shape of tensor 'w' holds -2"),
    "bool shape": ({"w": entry(shape=(True, 2))}, 8, "the shape of tensor 'w' holds True"),
    "float shape": ({"w": entry(shape=(2.0,))}, 8, r"the shape of tensor 'w' holds 2\.0"),
    "null shape": ({"w": entry(shape=None)}, 8, "the shape of tensor 'w' is no list"),
    "huge size": ({"w": entry(shape=(2**63,))}, 8, "holds 9223372036854775808, which is no size"),
    "long size": ({"w": entry(shape=("x" * 99_999,))}, 8, "the shape of tensor 'w' holds 'xxx"),
    "overflow": ({"w": entry(shape=(2**32, 2**32))}, 8, "'w' has the impossible shape"),
    "wraps to 8": ({"w": entry(shape=(2**62, 4, 2))}, 8, "'w' has the impossible shape"),
    "empty overflow": ({"w": entry(shape=(0, 2**40, 2**40), offsets=(0, 0))}, 0, "impossible"),
    "dims": ({"w": entry(shape=(1,) * 33, offsets=(0, 4))}, 4, "33 dims, more than 32"),
    "very many dims": ({"w": entry(shape=(1,) * 99_999)}, 8, "99999 dims"),
    "backwards": ({"w": entry(offsets=(8, 0))}, 8, r"impossible data_offsets \[8, 0\]"),
    "three offsets": ({"w": entry(offsets=(0, 8, 8))}, 8, r"impossible data_offsets"),
    "many offsets": ({"w": entry(offsets=(0,) * 99_999)}, 8, r"impossible data_offsets"),
    "shape too small": ({"w": entry(shape=(1,))}, 8, "takes 4 bytes, but its data_offsets span 8"),
    "dtype too wide": ({"w": entry("F64")}, 8, r"float64\[2\] takes 16 bytes, .* span 8"),
    "scalar": ({"w": entry(shape=())}, 8, "takes 4 bytes, but its data_offsets span 8"),
    "past the end": ({"w": entry(shape=(4,), offsets=(0, 16))}, 8, "take 16 bytes, 8 are there"),
    "terabytes": ({"w": entry(shape=(2**38,), offsets=(0, 2**40))}, 8, "cut short"),
    "overlap": ({"a": entry(), "b": entry(offsets=(4, 12))}, 12, "tensors 'a' and 'b' overlap"),
    "same place": ({"a": entry(), "b": entry()}, 8, "tensors 'a' and 'b' overlap"),
    "within": (
        {"a": entry(shape=(4,), offsets=(0, 16)), "b": entry(offsets=(4, 12))}, 16, "overlap",
    ),
    "gap": ({"a": entry(), "b": entry(offsets=(12, 20))}, 20, "4 bytes between 'a' and 'b'"),
    "gap before": ({"a": entry(offsets=(4, 12))}, 12, "4 bytes between the header and 'a'"),
    "rest": ({"a": entry()}, 9, "1 bytes follow the last tensor"),
    "not bool": ({"a": entry("BOOL", (3,), (0, 3))}, 3, "'a' is bool but holds other bytes"),
    "no name": ({"": entry()}, 8, "the name is empty or reserved"),
    "parent": ({"../../etc/x": entry()}, 8, "'../../etc/x' cannot name a tensor: it is a path"),
    "inner parent": ({"a/../b": entry()}, 8, "a path that leaves its folder"),
    "backslashes": ({"a\\..\\b": entry()}, 8, "a path that leaves its folder"),
    "absolute": ({"/etc/passwd": entry()}, 8, "a path that leaves its folder"),
    "escape": ({"\x1b[2J": entry()}, 8, r"'\\x1b\[2J' cannot name .*cannot be printed"),
    "newline": ({"a\nerror: b": entry()}, 8, "cannot be printed"),
    "zero": ({"a\0b": entry()}, 8, "cannot be printed"),
    "backwards text": ({"a\u202eb": entry()}, 8, "cannot be printed"),
    "half a character": ({"a\ud800": entry()}, 8, "cannot be printed"),
    "long name": ({"n" * 99_999: entry()}, 8, "longer than 512 characters"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENTRIES)
def test_hostile_entries(tmp_path: Path, case: str) -> None:
    entries, body, text = ENTRIES[case]
    refused(forged(tmp_path, entries, b"\x07" * body), text)


META_CASES: dict[str, tuple[dict[str, str], str]] = {
    "kind": ({"kind": '"other"'}, "but no symgraph checkpoint"),
    "kind of another spelling": ({"kind": "symgraph checkpoint"}, "but no symgraph checkpoint"),
    "format text": ({"format": '"1"'}, "its format is '1', not a number from 1 on"),
    "format zero": ({"format": "0"}, "its format is 0"),
    "format true": ({"format": "true"}, "its format is True"),
    "format huge text": ({"format": f'"{"x" * 99_999}"'}, "its format is 'xxx"),
    "no JSON": ({"settings": "{"}, "its metadata 'settings' is damaged"),
    "deep": ({"settings": "[" * 99_999}, "its metadata 'settings' is damaged: nested more"),
    "twice": ({"settings": '{"a": 1, "a": 2}'}, "damaged: a key stands twice"),
    "long number": ({"settings": "1" * 5000}, "its metadata 'settings' is damaged"),
    "long key": ({"k" * 99_999: "{"}, "its metadata 'kkk"),
}


@pytest.mark.parametrize("case", META_CASES)
def test_hostile_metadata(tmp_path: Path, case: str) -> None:
    meta, text = META_CASES[case]
    refused(forged(tmp_path, {}, **meta), text)


# the array `z` is float64[3, 2] in these files
COMPLEX_CASES: dict[str, tuple[str, str]] = {
    "no JSON": ("[", "its metadata 'complex128_tensors' is damaged"),
    "no list": ('{"z": 1}', "is no list of different names"),
    "no names": ("[1]", "is no list of different names"),
    "twice": ('["z", "z"]', "is no list of different names"),
    "not there": ('["y"]', "names 'y', which is not there"),
    "not in pairs": ('["three"]', r"'three' is said to be complex128 but is float64\[2, 3\]"),
    "no axis": ('["alone"]', r"'alone' is said to be complex128 but is float64\[\]"),
    "integers": ('["whole"]', r"'whole' is said to be complex128 but is int64\[2\]"),
}


@pytest.mark.parametrize("case", COMPLEX_CASES)
def test_hostile_notes_about_complex_numbers(tmp_path: Path, case: str) -> None:
    note, text = COMPLEX_CASES[case]
    entries = {
        "z": entry("F64", (3, 2), (0, 48)),
        "three": entry("F64", (2, 3), (48, 96)),
        "alone": entry("F64", (), (96, 104)),
        "whole": entry("I64", (2,), (104, 120)),
    }
    body = np.arange(15.0).tobytes()
    refused(forged(tmp_path, entries, body, complex128_tensors=note), text)
    found = load_checkpoint(forged(tmp_path, entries, body, complex128_tensors='["z"]'))
    np.testing.assert_array_equal(found.tensors["z"], [1j, 2 + 3j, 4 + 5j])


def test_a_newer_format_says_what_wrote_it(tmp_path: Path) -> None:
    target = forged(tmp_path, {}, format="3", versions='{"symgraph": "9.1"}')
    error = refused(target, "has format 3; this version of symgraph reads up to format 2")
    assert "written by symgraph 9.1" in error.fix


def test_without_a_format(tmp_path: Path) -> None:
    document = {"__metadata__": {"sha256": "0" * 64, "kind": META["kind"]}}
    target = tmp_path / "none.safetensors"
    target.write_bytes(seal(json.dumps(document)))
    refused(target, "its format is None")


@pytest.mark.parametrize("digest", ["", "0" * 63, "ü" * 64, "0" * 64])
def test_without_its_digest(tmp_path: Path, digest: str) -> None:
    document = {"__metadata__": {"sha256": digest, **META}}
    data = json.dumps(document).encode()
    target = tmp_path / "none.safetensors"
    target.write_bytes(len(data).to_bytes(8, "little") + data)
    refused(target, "sha256")


def test_things_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    refused(tmp_path / "pipe.safetensors", "is no regular file")  # and does not wait for a writer
    with pytest.raises(CheckpointError, match="/dev/zero is no regular file"):
        load_checkpoint("/dev/zero")
    with pytest.raises(CheckpointMissingError, match=r"no checkpoint .*nothing") as caught:
        load_checkpoint(tmp_path / "nothing.safetensors")
    assert isinstance(caught.value, FileNotFoundError)
    assert "folder of a run" in caught.value.fix
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be read: Not a directory"):
        load_checkpoint(tmp_path / "file" / "x.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read: File name too long"):
        load_checkpoint(tmp_path / ("x" * 300))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CheckpointError, match="loop cannot be read"):
        load_checkpoint(tmp_path / "loop")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(path: Path) -> None:
    path.chmod(0)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        load_checkpoint(path)
