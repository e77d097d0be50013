"""Starting and watching workers: what each does on its own, in programs of a few lines."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from symgraph.errors import ArgumentError
from symgraph.parallel import Outcome, launch
from symgraph.parallel import launch as package_launch

module = sys.modules["symgraph.parallel.launch"]
assert package_launch is launch

JOIN = "import sys, time, os, signal; from symgraph.parallel import join; team = join(); "


def run(code: str, count: int = 2, **options: object) -> tuple[Outcome, list[str], float]:
    said: list[str] = []
    began = time.monotonic()
    outcome = launch([sys.executable, "-c", JOIN + code], count, say=said.append, **options)  # type: ignore
    return outcome, said, time.monotonic() - began


def test_all_end_well() -> None:
    outcome, said, _ = run("team.gather()", 3)
    assert (outcome, said) == (Outcome(0), [])


def test_shares_of_the_cores_and_an_environment_of_their_own(tmp_path: Path) -> None:
    code = (
        f"open({str(tmp_path)!r} + '/' + os.environ['NAME'], 'w').write("
        "os.environ['OMP_NUM_THREADS'] + ' ' + str(team.rank))"
    )
    outcome, _, _ = run(code, 2, environment=lambda rank: {"NAME": f"worker-{rank}"})
    assert outcome.status == 0
    share = str(max(1, module.usable_cores() // 2))
    if "OMP_NUM_THREADS" not in os.environ:
        for rank in range(2):
            assert (tmp_path / f"worker-{rank}").read_text() == f"{share} {rank}"


def test_a_worker_that_is_asked_to_stop_leaves_the_others_time_to_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 has nothing to save and is gone at once; that is no failure."""
    monkeypatch.setattr(module, "GRACE", 0.5)
    saved = tmp_path / "checkpoint"
    code = f"team.rank or (time.sleep(2), open({str(saved)!r}, 'w').close()); sys.exit(143)"
    outcome, said, _ = run(code)
    assert saved.exists()
    assert (outcome, said) == (Outcome(143), [])


def test_workers_that_miss_another_have_time_and_then_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GRACE", 1.0)
    outcome, (line,), seconds = run("os._exit(3) if team.rank else time.sleep(60)")
    assert (outcome.status, outcome.failed, outcome.killed) == (3, 1, False)
    assert "worker 1" in line
    assert "ended with status 3" in line
    assert seconds < 30


def test_a_wait_that_is_over_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """One long wait, and many short ones after it for longer than the patience."""
    slow = (
        "import symgraph.parallel.team as t; t.LONG = 0.2; "
        "[s.settimeout(0.2) for s in team._peers.values()]; "
    )
    many = "[(team.gather(), time.sleep(0.05)) for _ in range(50)]"
    code = f"{slow} team.rank and time.sleep(0.8); {many}"
    outcome, said, _ = run(code, patience=1.5)
    assert outcome == Outcome(0)
    assert all("others wait for worker 1" in line for line in said)


def test_a_grandchild_that_keeps_the_output_is_not_waited_for() -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '20']); team.gather()"
    outcome, _, seconds = run(code)
    assert outcome == Outcome(0)
    assert seconds < 15


def test_from_a_thread() -> None:
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(run("team.gather()")[0]))
    thread.start()
    thread.join(30)
    assert found == [Outcome(0)]


def test_more_workers_than_sockets_are_usual() -> None:
    assert launch(["true"], 40) == Outcome(0)


def test_a_crash_after_ctrl_c_is_named() -> None:
    code = (
        "signal.signal(signal.SIGINT, lambda *a: None); team.gather(); "
        "team.rank or os.kill(os.getppid(), signal.SIGINT); time.sleep(0.5); "
        "team.rank and os.kill(os.getpid(), signal.SIGSEGV); time.sleep(2)"
    )
    outcome, said, _ = run(code)
    assert (outcome.failed, outcome.killed) == (1, False)  # the user wanted an end
    assert "was killed by SIGSEGV" in said[0]


def test_ctrl_c_before_anything_has_begun() -> None:
    before = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    outcome = launch([sys.executable, "-c", "import time; time.sleep(60)"], 2)
    timer.join()
    assert outcome == Outcome(130)
    assert signal.getsignal(signal.SIGINT) is before


def test_no_workers_are_no_team() -> None:
    with pytest.raises(ArgumentError, match="workers must be at least 1, got 0"):
        launch(["true"], 0)
