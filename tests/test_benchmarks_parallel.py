"""The benchmark of several processes: it runs without peers, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.test_benchmarks_smoke import FOLDER, WITHOUT_PEERS, run

SCRIPT = str(FOLDER / "data_parallel.py")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memfd, /proc")

# Workers that answer with their rank, and one that ends.
PROGRAM = """
import os, sys
sys.path[:0] = [{folder!r}, {root!r}]
from groups import Work, main

def work(team, **options):
    team.gather()
    def check(file, **asked):
        return {{"rank": team.rank, **options, **asked}}
    def run(**asked):
        if team.rank == asked.get("ends"):
            print("no more", file=sys.stderr, flush=True)
            os._exit(3)
    return Work(run, check, facts={{"size": team.size}})

if __name__ == "__main__":
    sys.exit(main({{"one": work}}, None))
"""

DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = [{folder!r}, {root!r}]
from groups import Group
place = Path(sys.argv[1])
with Group(place / "program.py", 2, place, {{}}) as group:
    assert group.make("a", "one", b=1) == {{"size": 2}}
    assert group.order("check", "a", file="", options={{"c": 2}}) == [
        {{"rank": 0, "b": 1, "c": 2}}, {{"rank": 1, "b": 1, "c": 2}}
    ]
    assert 0 <= group.run("a") < 60
    assert group.spent() > 0
    group.drop("a")
    group.make("a", "one")
    print(group.launcher.pid, flush=True)
    group.run("a", ends=1)
"""


def test_without_peers_ours_run_and_the_rest_is_left_out() -> None:
    code = WITHOUT_PEERS.format(folder=str(FOLDER))
    done = run("-c", code, SCRIPT, "--quick")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    rows = {row["case"]: row for row in report["rows"]}
    assert list(rows) == [
        "exchange of weights and momenta, of copy bandwidth",
        "exchange of gradients, of copy bandwidth",
        "exchange of weights and momenta, the published way",
        "exchange, gradients beside weights and momenta",
        "update, shared out beside whole",
        "alexnet b=2x2 fp32 params, weak scaling beside the model",
        "alexnet b=2x2 fp32 grads, weak scaling beside the model",
        "alexnet b=2x2 fp32 params, beside two that exchange nothing",
        "alexnet b=2x2 fp32 grads, beside two that exchange nothing",
        "alexnet b=2x2 fp32, grads beside params",
        "alexnet b=2x2 fp32, grads, update shared out beside whole",
    ]
    assert all(row["ratio"] > 0 for row in report["rows"])
    assert all(row["error"] < 1e-5 for row in report["rows"] if row["error"] is not None)
    reason = "this Python has no PyTorch"
    assert report["left_out"] == [
        f"exchange of weights and momenta, gloo: {reason}",
        f"exchange of gradients, gloo: {reason}",
        f"alexnet b=2x2 fp32 params, DDP: {reason}",
        f"alexnet b=2x2 fp32 grads, DDP: {reason}",
    ]


def test_workers_answer_and_one_that_ends_ends_the_benchmark(tmp_path: Path) -> None:
    paths = {"folder": str(FOLDER), "root": str(FOLDER.parent)}
    (tmp_path / "program.py").write_text(PROGRAM.format(**paths), "utf-8")
    done = run("-c", DRIVER.format(**paths), str(tmp_path))
    assert done.returncode == 1
    assert "RuntimeError: run a: a worker ended" in done.stderr
    assert "ended with status 3; it was at: run a; it said: no more" in done.stderr
    assert not alive(int(done.stdout))


def below(process: int) -> Iterator[int]:
    """Give the processes that a process has started, and theirs."""
    with suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield int(child)
            yield from below(int(child))


def alive(process: int) -> bool:
    """Tell whether a process is there and works; a zombie does not."""
    with suppress(OSError):
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


SELDOM = [pytest.param(each, marks=pytest.mark.full) for each in (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.parametrize("number", [signal.SIGKILL, *SELDOM])
def test_nothing_is_left_of_a_benchmark_that_is_stopped(
    tmp_path: Path, number: signal.Signals
) -> None:
    driver = subprocess.Popen(
        [sys.executable, SCRIPT, "--quick"], env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        found: list[int] = []
        deadline = time.monotonic() + 90
        while len(found) < 5 and time.monotonic() < deadline:  # two launchers and three workers
            time.sleep(0.05)
            found = list(below(driver.pid))
        assert len(found) >= 5
        driver.send_signal(number)
        driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode != 0
    deadline = time.monotonic() + 20
    while any(map(alive, found)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [process for process in found if alive(process)]
    if number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []
