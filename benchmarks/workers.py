"""Fresh processes: a script runs itself again with `--measure`, and the child prints numbers.

For what depends on a process being new: cold compilation, and the peak of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


def add_measure(parser: argparse.ArgumentParser) -> None:
    """Add the hidden flag with which a script runs as a child."""
    parser.add_argument("--measure", help=argparse.SUPPRESS)


def measure(
    what: str, arguments: list[str] | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run this script with `--measure what` in a new process; give what it reports.

    Variables of `environment` are set besides the present ones.
    """
    command = [sys.executable, sys.argv[0], "--measure", what, *(arguments or [])]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, text=True,
        check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(**numbers: float) -> int:
    """Print a child's numbers; gives the exit status."""
    print(json.dumps(numbers))
    return 0


def memory(field: str) -> int:
    """Give a line of the process's status in bytes: VmHWM is the most that it ever held."""
    for line in STATUS.read_text("ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {field}")
