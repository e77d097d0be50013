"""Named arrays in a file: the safetensors layout, with a digest over every byte.

::

    8 bytes   length of the header, little endian
    header    JSON: {"__metadata__": {"sha256": ..., str: str}, name: {dtype, shape, data_offsets}}
    body      the arrays, little endian, C order, without gaps

Other programs read these files with the safetensors library, which knows complex numbers of two
float32 but none of two float64: a complex128 array is written as F64 with one more axis of 2, and
the metadata `complex128_tensors` lists the names of those arrays. Here they are read with NumPy
alone: a second parser behind our checks could understand a hostile header differently from the
checks.

The digest covers the header (its own 64 places taken as zeros) and the body, so that one flipped
bit anywhere is found. It guards against accidents; it is no signature.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from symgraph.errors import ArgumentError, ArgumentTypeError, CheckpointError, DTypeError
from symgraph.frozen import frozen
from symgraph.io.boundedjson import Json, decode_json, encode_json

MAX_HEADER_BYTES = 16 << 20
MAX_DIMENSIONS = 32
MAX_NAME_CHARACTERS = 512

_CHUNK = 8 << 20
_MAX_MESSAGE = 1000  # characters: what a hostile header quotes may have millions
_ZEROS = "0" * 64
_DIGEST_AT = len('{"__metadata__": {"sha256": "')
_PREFIX = b'{"__metadata__": {"sha256": "'

#                code : (NumPy or ml_dtypes name, bytes of one element)
_DTYPES: dict[str, tuple[str, int]] = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F16": ("float16", 2),
    "F32": ("float32", 4),
    "F64": ("float64", 8),
    "C64": ("complex64", 8),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
}
_CODES = {name: code for code, (name, _) in _DTYPES.items()}
_PAIRS = "complex128"  # no code of the format: written as F64, real and imaginary parts in turn
_PAIRED = "complex128_tensors"  # the metadata that says which arrays are
_FROM_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


@frozen
class TensorEntry:
    """Where one array lies: bytes `begin` to `end` of the body, in C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@frozen
class TensorHeader:
    """The checked header of a file: its metadata, its arrays in the order they were given."""

    metadata: dict[str, str]
    entries: tuple[TensorEntry, ...]
    raw: bytes


def write_tensors(
    file: BinaryIO, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write arrays and metadata at the start of an empty file.

    Raises:
        ArgumentTypeError: a tensor is no NumPy array.
        ArgumentError: a name cannot be stored, or names and metadata exceed 16 MiB.
        DTypeError: an array has a dtype that cannot be stored.
        OSError: the disk is full.
    """
    entries = _layout(tensors)
    header = _header_bytes(entries, metadata)
    digest = hashlib.sha256(header)
    file.write(len(header).to_bytes(8, "little"))
    file.write(header)
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        data = _bytes_of(tensors[entry.name]).data
        for start in range(0, len(data), _CHUNK):
            digest.update(data[start : start + _CHUNK])
            file.write(data[start : start + _CHUNK])
    file.seek(8 + _DIGEST_AT)
    file.write(digest.hexdigest().encode())
    file.seek(0, os.SEEK_END)


def read_header(file: BinaryIO, path: object) -> TensorHeader:
    """The header of a file that nobody has checked yet; `path` names it in errors.

    Sizes, offsets, names and dtypes are all checked against the size of the file.

    Raises:
        CheckpointError: it is cut short, damaged or no safetensors file.
    """
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        _refuse(path, f"it is cut short: {size} bytes, and the length of the header alone takes 8")
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        _refuse(path, f"its header claims {length} bytes, more than the {MAX_HEADER_BYTES} allowed")
    if length > size - 8:
        _refuse(path, f"it is cut short: its header claims {length} bytes, {size - 8} are there")
    raw = file.read(length)
    try:
        decoded = decode_json(raw.decode(), strict=True)
    except ValueError as error:  # no UTF-8, no JSON, too deep, a key twice
        _refuse(path, f"its header is damaged: {error}")
    if not isinstance(decoded, dict):
        _refuse(path, "its header is no JSON object")
    metadata = _checked_metadata(decoded.pop("__metadata__", {}), path)
    entries = tuple(_checked_entry(name, value, path) for name, value in decoded.items())
    _check_offsets(entries, size - 8 - length, path)
    entries = _with_complex(entries, metadata.pop(_PAIRED, None), path)
    return TensorHeader(metadata, entries, raw)


def read_tensors(file: BinaryIO, header: TensorHeader, path: object) -> dict[str, NDArray[Any]]:
    """The arrays behind a checked header: fresh, writable, in the order they were given.

    Raises:
        CheckpointError: the file is cut short, or its digest is missing or differs.
    """
    digest = hashlib.sha256(_header_without_digest(header, path))
    found: dict[str, NDArray[Any]] = {}
    for entry in sorted(header.entries, key=lambda entry: (entry.begin, entry.end)):
        data = np.empty(entry.end - entry.begin, np.uint8)
        _fill(file, data.data, digest, path)
        if entry.dtype == "bool" and data.size and data.max() > 1:
            _refuse(path, f"tensor {entry.name!r} is bool but holds other bytes than 0 and 1")
        found[entry.name] = data.view(_numpy_dtype(entry.dtype, path)).reshape(entry.shape)
    if digest.hexdigest() != header.metadata["sha256"]:
        _refuse(path, "its bytes changed after it was written: the sha256 differs")
    return {entry.name: found[entry.name] for entry in header.entries}


def map_tensors(file: BinaryIO, header: TensorHeader, path: object) -> dict[str, NDArray[Any]]:
    """The arrays behind a checked header, read-only and left in the file: pages are read when used.

    Every byte is read once, for the digest. The file must not be written to or cut short later;
    replacing it by another one of the same name (`atomic_file`) does no harm.

    Raises:
        CheckpointError: the file is cut short, or its digest is missing or differs.
    """
    digest = hashlib.sha256(_header_without_digest(header, path))
    begin = 8 + len(header.raw)
    body = max((entry.end for entry in header.entries), default=0)
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if len(mapped) < begin + body:
        _refuse(path, "it was cut short while it was read")
    digest.update(memoryview(mapped)[begin : begin + body])
    if digest.hexdigest() != header.metadata["sha256"]:
        _refuse(path, "its bytes changed after it was written: the sha256 differs")
    found: dict[str, NDArray[Any]] = {}
    for entry in header.entries:
        data = np.frombuffer(mapped, np.uint8)[begin + entry.begin : begin + entry.end]
        if entry.dtype == "bool" and data.size and data.max() > 1:
            _refuse(path, f"tensor {entry.name!r} is bool but holds other bytes than 0 and 1")
        found[entry.name] = data.view(_numpy_dtype(entry.dtype, path)).reshape(entry.shape)
    return found


def _with_complex(
    entries: tuple[TensorEntry, ...], note: str | None, path: object
) -> tuple[TensorEntry, ...]:
    """The arrays as they were given: what the metadata calls complex128 has no axis of parts."""
    if note is None:
        return entries
    try:
        listed = decode_json(note, strict=True)
    except ValueError as error:
        _refuse(path, f"its metadata {_PAIRED!r} is damaged: {error}")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    if names != listed or len(set(names)) < len(names):
        _refuse(path, f"its metadata {_PAIRED!r} is no list of different names")
    by_name = {entry.name: entry for entry in entries}
    for name in names:
        entry = by_name.get(name)
        if entry is None:
            _refuse(path, f"its metadata {_PAIRED!r} names {name!r}, which is not there")
        if entry.dtype != "float64" or entry.shape[-1:] != (2,):
            _refuse(
                path,
                f"tensor {name!r} is said to be complex128 but is {entry.dtype}"
                f"{list(entry.shape)}, not float64 with a last axis of 2",
            )
        by_name[name] = replace(entry, dtype=_PAIRS, shape=entry.shape[:-1])
    return tuple(by_name.values())


def _layout(tensors: Mapping[str, NDArray[Any]]) -> list[TensorEntry]:
    """Offsets with the widest elements first, so that every array is aligned in the file."""
    for name, array in tensors.items():
        _check_tensor(name, array)
    begin, placed = 0, {}
    for name in sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name)):
        array = tensors[name]
        end = begin + array.nbytes
        placed[name] = TensorEntry(name, array.dtype.name, array.shape, begin, end)
        begin = end
    return [placed[name] for name in tensors]


def _check_tensor(name: object, array: object) -> None:
    if not isinstance(name, str):
        raise ArgumentTypeError(f"save_checkpoint: the name of a tensor is a string, not {name!r}.")
    if wrong := _wrong_name(name):
        raise ArgumentError(f"save_checkpoint: {name!r} cannot name a tensor: {wrong}.")
    if not isinstance(array, np.ndarray | np.generic) or isinstance(array, np.ma.MaskedArray):
        raise ArgumentTypeError(
            f"save_checkpoint: tensor {name!r} must be a NumPy array, not {type(array).__name__}.",
            fix="np.asarray makes one of a list; of a masked array .data and .mask are two",
        )
    if array.dtype.name not in _CODES and array.dtype.name != _PAIRS:
        raise DTypeError(
            f"save_checkpoint: tensor {name!r} has dtype {array.dtype}, "
            "which a checkpoint cannot hold.",
            fix=f"convert it to one of {', '.join((*_CODES, _PAIRS))}",
        )
    most = MAX_DIMENSIONS - (array.dtype.name == _PAIRS)
    if array.ndim > most:
        raise ArgumentError(
            f"save_checkpoint: tensor {name!r} has {array.ndim} dims; "
            f"a checkpoint holds at most {most} of {array.dtype}."
        )


def _header_bytes(entries: list[TensorEntry], metadata: Mapping[str, str]) -> bytes:
    if _PAIRED in metadata:
        raise ArgumentError(
            f"save_checkpoint: meta[{_PAIRED!r}] is written by symgraph itself.",
            fix="store it under another name",
        )
    paired = [entry.name for entry in entries if entry.dtype == _PAIRS]
    note = {_PAIRED: encode_json(paired, "checkpoint")} if paired else {}
    document: dict[str, object] = {"__metadata__": {"sha256": _ZEROS, **metadata, **note}}
    for entry in entries:
        parts = (2,) if entry.dtype == _PAIRS else ()
        document[entry.name] = {
            "dtype": _CODES["float64" if parts else entry.dtype],
            "shape": [*entry.shape, *parts],
            "data_offsets": [entry.begin, entry.end],
        }
    header = encode_json(document, "checkpoint").encode()
    header += b" " * (-len(header) % 8)  # the body starts aligned
    if len(header) > MAX_HEADER_BYTES:
        raise ArgumentError(
            f"save_checkpoint: names and metadata take {len(header)} bytes, "
            f"more than the {MAX_HEADER_BYTES} allowed.",
            fix="put arrays among the tensors, not into meta",
        )
    return header


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _checked_metadata(value: Json, path: object) -> dict[str, str]:
    if not isinstance(value, dict):
        _refuse(path, "its __metadata__ is no JSON object")
    checked: dict[str, str] = {}
    for key, text in value.items():
        if not isinstance(text, str):
            _refuse(path, f"its metadata {key!r} is no string")
        checked[key] = text
    return checked


def _checked_entry(name: str, value: Json, path: object) -> TensorEntry:
    if wrong := _wrong_name(name):
        _refuse(path, f"{name[:80]!r} cannot name a tensor: {wrong}")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"tensor {name!r} needs exactly dtype, shape and data_offsets")
    code = value["dtype"]
    if not isinstance(code, str) or code not in _DTYPES:
        _refuse(path, f"tensor {name!r} has the unknown dtype {code!r}")
    shape = _checked_sizes(value["shape"], f"the shape of tensor {name!r}", path)
    offsets = _checked_sizes(value["data_offsets"], f"the data_offsets of tensor {name!r}", path)
    if len(shape) > MAX_DIMENSIONS:
        _refuse(path, f"tensor {name!r} has {len(shape)} dims, more than {MAX_DIMENSIONS}")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(path, f"tensor {name!r} has the impossible data_offsets {list(offsets)}")
    dtype, width = _DTYPES[code]
    # NumPy multiplies the sizes that are not 0 and must not overflow, in an empty array too.
    if math.prod(max(size, 1) for size in shape) * width >= 1 << 63:
        _refuse(path, f"tensor {name!r} has the impossible shape {list(shape)}")
    if math.prod(shape) * width != offsets[1] - offsets[0]:
        _refuse(
            path,
            f"tensor {name!r} of {dtype}{list(shape)} takes {math.prod(shape) * width} bytes, "
            f"but its data_offsets span {offsets[1] - offsets[0]}",
        )
    return TensorEntry(name, dtype, shape, offsets[0], offsets[1])


def _checked_sizes(value: Json, what: str, path: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        _refuse(path, f"{what} is no list")
    sizes: list[int] = []
    for size in value:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            _refuse(path, f"{what} holds {size!r}, which is no size")
        sizes.append(size)
    return tuple(sizes)


def _check_offsets(entries: tuple[TensorEntry, ...], body: int, path: object) -> None:
    reached, before = 0, "the header"
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin < reached:
            _refuse(path, f"tensors {before} and {entry.name!r} overlap")
        if entry.begin > reached:
            _refuse(
                path,
                f"{entry.begin - reached} bytes between {before} and {entry.name!r} are unused",
            )
        reached, before = entry.end, repr(entry.name)
    if reached > body:
        _refuse(path, f"it is cut short: its tensors take {reached} bytes, {body} are there")
    if reached < body:
        _refuse(path, f"{body - reached} bytes follow the last tensor")


def _wrong_name(name: str) -> str:
    """Why this cannot name a tensor, or nothing.

    Names end up in messages on a terminal and, in the hands of users, in file names.
    """
    if not name or name == "__metadata__":
        return "the name is empty or reserved"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"it is longer than {MAX_NAME_CHARACTERS} characters"
    if not name.isprintable():
        return "it holds characters that cannot be printed"
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        return "it is a path that leaves its folder"
    return ""


def _header_without_digest(header: TensorHeader, path: object) -> bytes:
    digest = header.metadata.get("sha256", "")
    end = _DIGEST_AT + len(_ZEROS)
    if header.raw[:end] != _PREFIX + digest.encode() or len(digest) != len(_ZEROS):
        _refuse(path, "its header does not begin with a sha256: another program rewrote it")
    return _PREFIX + _ZEROS.encode() + header.raw[end:]


def _fill(file: BinaryIO, target: memoryview, digest: hashlib._Hash, path: object) -> None:
    for start in range(0, len(target), _CHUNK):
        chunk = target[start : start + _CHUNK]
        if file.readinto(chunk) != len(chunk):  # type: ignore[attr-defined]
            _refuse(path, "it was cut short while it was read")
        digest.update(chunk)


def _numpy_dtype(name: str, path: object) -> np.dtype[Any]:
    if name not in _FROM_ML_DTYPES:
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise CheckpointError(
            f"checkpoint {path} holds {name} tensors, and ml_dtypes is not installed.",
            fix="pip install ml_dtypes",
        ) from None
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


def _refuse(path: object, what: str) -> NoReturn:
    what = what if len(what) <= _MAX_MESSAGE else what[:_MAX_MESSAGE] + " ..."
    raise CheckpointError(f"checkpoint {path} cannot be read: {what}.")
