"""Run folders: where a run writes, and which checkpoint a word on the command line means.

::

    runs/alexnet-20250102-030405/
        checkpoint-0001-step-500.safetensors
        metrics.jsonl   curves.png   filters.png
"""

from __future__ import annotations

import time
from pathlib import Path

from symgraph.errors import ArgumentError, CheckpointMissingError
from symgraph.io import latest_checkpoint, list_checkpoints

RUNS = Path("runs")
LATEST = "latest"


def new_run_folder(model: str, out: str | None = None) -> Path:
    """Make and return the folder of a new run: `out`, or ``runs/<model>-<date>-<time>``.

    Raises:
        ArgumentError: `out` exists and is no folder, or holds the checkpoints of another run; or
            the folder cannot be made.
    """
    if out is not None:
        folder = Path(out)
        if folder.exists() and not folder.is_dir():
            raise ArgumentError(f"--out {folder} exists and is no folder.")
        if found := list_checkpoints(folder):
            raise ArgumentError(
                f"--out {folder} holds a run already: {found[-1].name}.",
                fix="continue it with --resume, or choose another folder",
            )
        _make(folder, exist_ok=True)
        return folder
    stamp = RUNS / f"{model}-{time.strftime('%Y%m%d-%H%M%S')}"
    number, folder = 1, stamp
    while True:  # two runs may start in the same second
        try:
            _make(folder, exist_ok=False)
        except FileExistsError:
            number += 1
            folder = stamp.with_name(f"{stamp.name}-{number}")
        else:
            return folder


def find_checkpoint(word: str, model: str, out: str | None = None) -> Path:
    """The checkpoint that `--resume` or `--checkpoint` means.

    `word` is a file, the folder of a run (its latest checkpoint), or ``latest``: the latest one in
    `out` if that is given, else in the newest folder ``runs/<model>-*`` that holds one.

    Raises:
        CheckpointMissingError: there is none.
    """
    if word != LATEST:
        path = Path(word)
        if path.is_dir():
            return latest_checkpoint(path)
        if not path.exists():
            raise CheckpointMissingError(f"there is no checkpoint {path}.")
        return path
    if out is not None:
        return latest_checkpoint(out)
    newest = [found[-1] for folder in _folders(model) if (found := list_checkpoints(folder))]
    if not newest:
        raise CheckpointMissingError(
            f"no folder {RUNS}/{model}-* in {Path.cwd()} holds a checkpoint.",
            fix="train first, or give the path of a checkpoint",
        )
    return max(newest, key=lambda path: path.stat().st_mtime_ns)


def _make(folder: Path, *, exist_ok: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        raise
    except OSError as error:
        raise ArgumentError(
            f"the folder of the run, {folder}, cannot be made: {error.strerror}.",
            fix="choose another folder with --out",
        ) from error


def _folders(model: str) -> list[Path]:
    return [folder for folder in RUNS.glob(f"{model}-*") if folder.is_dir()]
