"""The measured course of a run, one JSON object per line.

::

    {"kind": "train", "step": 10, "epoch": 0, "loss": 2.31, "learning_rate": 0.01}
    {"kind": "validation", "step": 500, "epoch": 1, "accuracy": 0.41}

Every line reaches the file at once, so that a run that dies loses nothing but the line it was
writing. NaN and infinities, which JSON lacks, are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from symgraph.errors import ArgumentError, DataError, DataMissingError
from symgraph.io import atomic_file

Record: TypeAlias = dict[str, int | float | str | bool | None]

_NO_JSON = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class MetricsLog:
    """Writes metrics line by line; used as `with MetricsLog(path) as log`.

    A new run passes no `resume_step` and must find no file with lines in it. A resumed run passes
    the step of its checkpoint: lines of later steps, which it will write again, are removed first,
    and so are lines of that very step whose kind is among `again`, and a last line cut short.

    Raises:
        ArgumentError: a new run found the metrics of another one.
        DataError: the file to be resumed is damaged in the middle.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        resume_step: int | None = None,
        again: Collection[str] = (),
    ) -> None:
        self.path = Path(path)
        exists = self.path.exists() and self.path.stat().st_size > 0
        if exists and resume_step is None:
            raise ArgumentError(
                f"{self.path} holds the metrics of another run.",
                fix="resume that run, or choose another folder with --out",
            )
        if exists and resume_step is not None:
            _truncate(self.path, resume_step, again)
        # Unbuffered: a line that could not be written must not come back when the file is closed.
        self._file = self.path.open("ab", buffering=0)

    def write(self, kind: str, *, step: int, **values: float | str | bool | None) -> None:
        """Append one line and hand it to the operating system at once.

        Raises `DataError` when it cannot be written (a full disk).
        """
        line = json.dumps(
            {"kind": kind, "step": int(step), **{k: _plain(k, v) for k, v in values.items()}},
            allow_nan=False,
        )
        try:
            self._file.write(f"{line}\n".encode())
        except OSError as error:
            raise DataError(
                f"{self.path}: the metrics of step {step} cannot be written: {error.strerror}.",
                fix="make room, then go on with --resume",
            ) from error

    def close(self) -> None:
        """Flush to the disk and close."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class NoLog:
    """Writes nothing: the log of a worker that is not the first."""

    def write(self, kind: str, *, step: int, **values: float | str | bool | None) -> None:
        """Write nothing."""

    def __enter__(self) -> NoLog:
        return self

    def __exit__(self, *problem: object) -> None:
        return


Log: TypeAlias = MetricsLog | NoLog


@dataclass(frozen=True)
class Metrics:
    """The lines of a metrics file; `cut` is the text of a last line that was cut short, else ""."""

    path: Path
    records: tuple[Record, ...]
    cut: str = ""

    def series(self, kind: str, value: str) -> tuple[list[int], list[float]]:
        """Steps and values of one measure, in the order in which they were written."""
        steps: list[int] = []
        values: list[float] = []
        for record in self.records:
            if record["kind"] == kind and isinstance(number := record.get(value), int | float):
                steps.append(_step(record))
                values.append(float(number))
        return steps, values


def read_metrics(path: str | os.PathLike[str]) -> Metrics:
    """Read a metrics file, also while a run is writing to it.

    A last line without its end is not an error: it is left out and reported as `cut`.

    Raises:
        DataMissingError: there is no such file.
        DataError: a line is no JSON object with `kind` and `step`.
    """
    source = Path(path)
    try:
        text = source.read_bytes()
    except FileNotFoundError:
        raise DataMissingError(f"there are no metrics at {source}.") from None
    *whole, last = text.split(b"\n")
    records = [_decoded(line, number, source) for number, line in enumerate(whole, start=1)]
    return Metrics(source, tuple(records), last.decode(errors="replace"))


def _truncate(path: Path, step: int, again: Collection[str]) -> None:
    kept = [
        record
        for record in read_metrics(path).records
        if _step(record) < step or (_step(record) == step and record["kind"] not in again)
    ]
    with atomic_file(path) as file:
        for record in kept:
            values = {key: _plain(key, value) for key, value in record.items()}
            file.write(json.dumps(values, allow_nan=False).encode() + b"\n")


def _decoded(line: bytes, number: int, path: Path) -> Record:
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number} is no JSON: {error}.") from None
    if (
        not isinstance(record, dict)
        or not isinstance(record.get("kind"), str)
        or not isinstance(record.get("step"), int)
    ):
        raise DataError(f"{path}, line {number} is no object with a `kind` and a whole `step`.")
    return {
        key: _NO_JSON.get(value, value) if isinstance(value, str) else value
        for key, value in record.items()
    }


def _step(record: Record) -> int:
    step = record["step"]
    return step if isinstance(step, int) else 0


def _plain(name: str, value: Any) -> int | float | str | bool | None:
    if isinstance(value, np.generic | np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, int | float | str):
        return value
    raise ArgumentError(f"metric `{name}` must be a number or a string, not {value!r}.")
