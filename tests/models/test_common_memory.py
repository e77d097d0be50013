"""Keeping memory: after it, large arrays reuse what was freed instead of faulting in new pages."""

import subprocess
import sys

import pytest

from models.common.memory import keep_memory

FAULTS = """
import resource, sys
import numpy as np
from models.common.memory import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
def step():
    return float((np.ones(20_000_000, np.float32) * 2).sum())
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    assert step() == 4e7
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt is on Linux")
def test_freed_memory_is_used_again() -> None:
    assert _faults("keep") < 20 < _faults("leave")


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_memory()
