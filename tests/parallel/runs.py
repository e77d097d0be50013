"""Runs of the tiny model as several processes, and what may not be left of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
TINY = ROOT / "tests" / "models" / "tiny.py"
SECONDS = 60.0  # in which any run must be over


@dataclass
class Run:
    """A run that was started, and how it ended."""

    process: subprocess.Popen[str]
    output: Path
    errors: Path
    began: float

    def wait(self) -> int:
        """Wait for the end; everything that it started must be gone a second later."""
        code = self.process.wait(SECONDS)
        assert until(lambda: not self.left(), 1.0), self.left()
        return code

    def left(self) -> list[int]:
        """Give the processes that are still there."""
        return [number for number in processes(str(self.output.parent)) if number != os.getpid()]

    def said(self) -> str:
        """Give its errors."""
        return self.errors.read_text()


def start(folder: Path, *arguments: Any, plan: dict[str, Any] | None = None, **more: Any) -> Run:
    """Start the tiny model; the folder of outputs marks its processes."""
    out = folder / "run"
    words = [str(one) for one in ("--out", out, *arguments)]
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    if plan is not None:
        surroundings["TINY_PLAN"] = json.dumps(plan)
    errors, output = folder / "errors.txt", folder / "output.txt"
    began = time.monotonic()
    with errors.open("w") as error, output.open("w") as text:
        process = subprocess.Popen(
            [sys.executable, str(TINY), *words], stdout=text, stderr=error, text=True,
            env=surroundings, cwd=folder, start_new_session=True, **more,
        )  # fmt: skip
    return Run(process, output, errors, began)


def processes(mark: str) -> list[int]:
    """Give the living processes whose command line names `mark`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace")
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if mark in words and state != "Z":
                found.append(int(name))
    return sorted(found)


def workers(run: Run) -> list[int]:
    """Give the processes of a run but for the launcher."""
    return [number for number in run.left() if number != run.process.pid]


def until(condition: Callable[[], Any], seconds: float = SECONDS) -> bool:
    """Wait for something; tell whether it came."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())
