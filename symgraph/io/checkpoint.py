"""Checkpoints: the state of a training run in one file that is there whole or not at all.

One checkpoint is one safetensors file. The JSON document that describes it (`meta`) lies in its
header, one entry per key, so that tensors and document can never come from two different moments:
one rename makes both visible. `python -m symgraph.io FILE` prints the document, and
`head -c 2000 FILE` shows it too.

Keys with a meaning, next to whatever else the caller stores:

============== ===========================================================================
format         written here: the number of this layout
kind           written here: ``"symgraph checkpoint"``
versions       written here: of symgraph, NumPy and Python
step, epoch    how far training has come: counted in updates, in passes over the data
seed           the one seed of the run
model          name of the model
optimizer      name and settings; its arrays lie among the tensors
random_state   what continues the random numbers
data_cursor    what continues the order of the data
============== ===========================================================================

In a folder the files are numbered in the order in which they were saved, not by step: after going
back to an older one and training on from there, the newest file is the one saved last.
One process writes to a folder at a time.
"""

from __future__ import annotations

import os
import platform
import re
import reprlib
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from symgraph._version import __version__
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    CheckpointMissingError,
)
from symgraph.frozen import frozen
from symgraph.io.atomic import atomic_file, remove_stale_partials
from symgraph.io.boundedjson import Json, decode_json, encode_json
from symgraph.io.tensorfile import TensorHeader, read_header, read_tensors, write_tensors

FORMAT = 2  # 1 without complex128
KIND = "symgraph checkpoint"
SUFFIX = ".safetensors"

_STEP_DIGITS = 18
_FILE_NAME = re.compile(rf"checkpoint-(\d{{4,12}})-step-(\d{{1,{_STEP_DIGITS}}})\.safetensors")
_WRITTEN_HERE = ("format", "kind", "versions", "sha256")
_SHOWN = 5  # names listed per kind of difference

Signature = dict[str, tuple[tuple[int, ...], str]]


@frozen(eq=False)
class CheckpointHeader:
    """What a checkpoint says about itself, read without its tensors."""

    meta: dict[str, Json]
    signature: Signature
    path: Path


@frozen(eq=False)
class Checkpoint:
    """A checkpoint in memory: arrays by name, the document, and the file it came from."""

    tensors: dict[str, NDArray[Any]]
    meta: dict[str, Json]
    path: Path

    @property
    def signature(self) -> Signature:
        """Shape and name of the dtype of every tensor, by name."""
        return {name: (a.shape, a.dtype.name) for name, a in self.tensors.items()}


def save_checkpoint(
    folder_or_path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    meta: Mapping[str, Any],
    *,
    keep: int = 3,
) -> Path:
    """Save a checkpoint and return its path.

    A path that ends in ``.safetensors`` is the file itself and is replaced. Anything else is a
    folder, made if need be, where ``checkpoint-<number>-step-<meta["step"]>.safetensors`` is added
    and all but the newest `keep` are removed. The keys `format`, `kind` and `versions` of `meta`
    are replaced by those of today, so that a loaded `meta` can be saved again.

    Raises:
        CheckpointError: the file could not be written; what was there before is untouched.
        ArgumentError, ArgumentTypeError, DTypeError: tensors or `meta` cannot be stored.
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
        raise ArgumentError(f"save_checkpoint: keep must be at least 1, not {keep!r}.")
    target = Path(folder_or_path)
    document = _encoded_document(meta, tensors)
    alone = target.suffix == SUFFIX
    step = None if alone else _checked_step(meta)
    with _writing(target, tensors):
        (target.parent if alone else target).mkdir(parents=True, exist_ok=True)
        path = target if alone else target / _next_name(target, step)
        remove_stale_partials(path.parent)
        with atomic_file(path) as file:
            write_tensors(file, tensors, document)
        if not alone:
            for old in list_checkpoints(target)[:-keep]:
                old.unlink(missing_ok=True)
    return path


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint and verify every byte of it; for a folder, its latest one.

    The arrays are fresh and writable. Keys of the document that this version does not know stay.

    Raises:
        CheckpointMissingError: there is no such file, or none in the folder.
        CheckpointError: it is cut short, damaged, of another kind or from a newer version.
    """
    with _opened(path) as (file, found):
        header, meta = _read_document(file, found)
        tensors = read_tensors(file, header, found)
    return Checkpoint(tensors, meta, found)


def read_checkpoint_header(path: str | os.PathLike[str]) -> CheckpointHeader:
    """Read what a checkpoint says about itself, without its tensors and without the digest.

    Raises: as `load_checkpoint`.
    """
    with _opened(path) as (file, found):
        header, meta = _read_document(file, found)
    signature = {entry.name: (entry.shape, entry.dtype) for entry in header.entries}
    return CheckpointHeader(meta, signature, found)


def list_checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints in a folder, oldest first; none where there is no such folder."""
    root = Path(folder)
    if not os.path.isdir(root):
        return []
    numbered = [
        (int(match[1]), path)
        for path in root.iterdir()
        if (match := _FILE_NAME.fullmatch(path.name)) and path.is_file()
    ]
    return [path for _, path in sorted(numbered)]


def latest_checkpoint(folder: str | os.PathLike[str]) -> Path:
    """The checkpoint that was saved last in a folder.

    Raises:
        CheckpointMissingError: there is none.
    """
    found = list_checkpoints(folder)
    if not found:
        raise CheckpointMissingError(
            f"there is no checkpoint in {os.fspath(folder)}.",
            fix="give the folder of a run, or the .safetensors file itself",
        )
    return found[-1]


def check_matches(
    checkpoint: Checkpoint | CheckpointHeader,
    expected: Mapping[str, tuple[Sequence[int], Any]],
    what: str = "the model",
    *,
    ignore: str | Sequence[str] = (),
) -> None:
    """Check that a checkpoint holds exactly the tensors that are expected.

    `expected` maps names to (shape, dtype); `what` names the model in the message. Names in the
    checkpoint that begin with one of `ignore` may be surplus, as optimizer state is to evaluation.

    Raises:
        CheckpointError: tensors are missing, surplus, or of another shape or dtype.
    """
    have = checkpoint.signature
    beginnings = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    want = {
        name: (tuple(int(size) for size in shape), np.dtype(dtype).name)
        for name, (shape, dtype) in expected.items()
    }
    missing = [f"{name} {_typed(want[name])}" for name in want if name not in have]
    surplus = [
        f"{name} {_typed(have[name])}"
        for name in have
        if name not in want and not name.startswith(beginnings)
    ]
    differing = [
        f"{name}: {_typed(have[name])} in the checkpoint, {_typed(want[name])} in {what}"
        for name in want
        if name in have and have[name] != want[name]
    ]
    if not (missing or surplus or differing):
        return
    origin = checkpoint.meta.get("model")
    raise CheckpointError(
        f"checkpoint {checkpoint.path} does not fit {what}: {len(missing)} tensors missing, "
        f"{len(surplus)} surplus, {len(differing)} of another shape or dtype.",
        details=[
            *([f"it was saved from {origin}"] if isinstance(origin, str) else []),
            *_first_few("missing", missing),
            *_first_few("surplus", surplus),
            *_first_few("differs", differing),
        ],
        fix=f"load it into the model it was saved from, or build {what} with the same settings",
    )


def _checked_step(meta: Mapping[str, Any]) -> int:
    step = meta.get("step")
    if (
        isinstance(step, bool)
        or not isinstance(step, int | np.integer)
        or not 0 <= step < 10**_STEP_DIGITS
    ):
        raise ArgumentError(
            f"save_checkpoint: meta['step'] must be an int of at least 0 and below "
            f"10**{_STEP_DIGITS}, not {step!r}.",
            fix="the step becomes part of the file name; or give a path that ends in .safetensors",
        )
    return int(step)


def _next_name(folder: Path, step: int | None) -> str:
    found = list_checkpoints(folder)
    match = _FILE_NAME.fullmatch(found[-1].name) if found else None
    number = int(match[1]) + 1 if match else 1
    return f"checkpoint-{number:04d}-step-{step}{SUFFIX}"


def _encoded_document(meta: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, str]:
    paired = any(getattr(one, "dtype", None) == "complex128" for one in tensors.values())
    document: dict[str, Any] = {
        "format": FORMAT if paired else 1,  # older versions read what they can
        "kind": KIND,
        "versions": {
            "symgraph": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    for key in meta:
        if not isinstance(key, str):
            raise ArgumentTypeError(f"save_checkpoint: the keys of meta are strings, not {key!r}.")
        if key not in _WRITTEN_HERE:
            document[key] = meta[key]
    return {key: encode_json(value, f"meta[{key!r}]") for key, value in document.items()}


def _read_document(file: BinaryIO, path: Path) -> tuple[TensorHeader, dict[str, Json]]:
    header = read_header(file, path)
    if header.metadata.get("kind") != encode_json(KIND, "kind"):
        raise CheckpointError(
            f"{path} is a safetensors file, but no symgraph checkpoint: its header does not say "
            f"kind = {KIND!r}."
        )
    meta: dict[str, Json] = {}
    for key, text in header.metadata.items():
        if key == "sha256":
            continue
        try:
            meta[key] = decode_json(text, strict=False)
        except ValueError as error:
            raise CheckpointError(
                f"checkpoint {path} cannot be read: its metadata {reprlib.repr(key)} is damaged: "
                f"{error}."
            ) from None
    _check_format(meta, path)
    return header, meta


def _check_format(meta: dict[str, Json], path: Path) -> None:
    number = meta.get("format")
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise CheckpointError(
            f"checkpoint {path} cannot be read: its format is {reprlib.repr(number)}, "
            "not a number from 1 on."
        )
    if number > FORMAT:
        versions = meta.get("versions")
        writer = versions.get("symgraph") if isinstance(versions, dict) else None
        raise CheckpointError(
            f"checkpoint {path} has format {number}; this version of symgraph reads up to "
            f"format {FORMAT}.",
            fix=f"it was written by symgraph {writer}: install that version or a newer one",
        )


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, Path]]:
    """The file behind a path or a folder; errors inside the block point to the file before it."""
    found = Path(path)
    try:
        is_folder = found.is_dir()
    except OSError as error:  # a name too long, or a folder above it that may not be entered
        raise CheckpointError(f"checkpoint {found} cannot be read: {error.strerror}.") from error
    if is_folder:
        found = latest_checkpoint(found)
    try:
        # A pipe or device would block or never end; it is looked at before it is opened.
        if not stat.S_ISREG(found.stat().st_mode):
            raise CheckpointError(f"{found} is no regular file.")
        with found.open("rb") as file:
            yield file, found
    except FileNotFoundError:
        raise CheckpointMissingError(
            f"there is no checkpoint {found}.",
            fix="give the folder of a run, or the .safetensors file itself",
        ) from None
    except OSError as error:
        raise CheckpointError(f"checkpoint {found} cannot be read: {error.strerror}.") from error
    except CheckpointError as error:
        siblings = list_checkpoints(found.parent)
        before = siblings[: siblings.index(found)] if found in siblings else []
        fix = error.fix or (f"the one saved before it is {before[-1]}" if before else "")
        raise CheckpointError(error.message, details=error.details, fix=fix) from error.__cause__


@contextmanager
def _writing(target: Path, tensors: Mapping[str, NDArray[Any]]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # os.path and not Path: a name too long does not exist, and is no second error.
        parent = next(p for p in (target, *target.absolute().parents) if os.path.exists(p))
        needed = sum(array.nbytes for array in tensors.values())
        free = shutil.disk_usage(parent).free
        kept = list_checkpoints(target)
        raise CheckpointError(
            f"checkpoint {target} could not be written: {error.strerror}.",
            details=[
                f"needed : {needed:,} bytes",
                f"free   : {free:,} bytes on the disk of {parent}",
                *([f"intact : {kept[-1]}"] if kept else []),
            ],
            fix="make room, or save elsewhere",
        ) from error


def _typed(signature: tuple[tuple[int, ...], str]) -> str:
    shape, dtype = signature
    return f"{dtype}[{', '.join(map(str, shape))}]"


def _first_few(label: str, lines: list[str]) -> list[str]:
    shown = [f"{label} : {line}" for line in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"{label} : and {len(lines) - _SHOWN} more")
    return shown
