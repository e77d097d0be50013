"""Real signals to real processes: named at once, nothing left behind, and the run can go on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from symgraph.io import list_checkpoints, load_checkpoint
from tests.models.runs import assert_same_run, metrics
from tests.parallel.runs import Run, is_alive, start, started, until, workers

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="looks at processes where Linux shows them"
)
KILL, TERMINATE, INTERRUPT, STOP = signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP
MEMORY, LEAVE = 0, -1


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No segment stays in the shared memory of this machine."""
    before = set(os.listdir("/dev/shm"))
    yield
    for process in started:  # only where a test has failed is there still one
        process.kill()
        process.wait()
    started.clear()
    new = {name for name in os.listdir("/dev/shm") if "symgraph" in name} - before
    assert not new


@pytest.fixture(scope="module")
def undisturbed(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two workers that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = start(folder, "--data", tiny_data, "--workers", 2)
    assert run.wait() == 0, run.said()
    return folder / "run"


def go_on(folder: Path, undisturbed: Path, *arguments: Any) -> None:
    """Resume, and end like the run that nobody disturbed, bit by bit."""
    again = folder / "again"
    again.mkdir()
    shutil.copytree(folder / "run", again / "run")
    resumed = start(again, "--resume", again / "run", "--workers", 2, *arguments)
    assert resumed.wait() == 0, resumed.said()
    assert_same_run(again / "run", undisturbed)


# where a worker ends, at which moment of these, which worker, how, and what is said of it
FAULTS: dict[str, tuple[str, int, int, int, str]] = {
    "killed before a step": ("step", 6, 1, KILL, "worker 1 .* was killed by SIGKILL.*: step 5"),
    "killed after a step": ("stepped", 5, 0, KILL, "worker 0 .* was killed by SIGKILL"),
    "crashed in a step": ("step", 3, 1, signal.SIGSEGV, "worker 1 .* killed by SIGSEGV"),
    "killed in a checkpoint": ("write", 2, 0, KILL, "worker 0 .* was killed by SIGKILL"),
    "killed before a rename": ("replace", 3, 0, KILL, "worker 0 .* was killed by SIGKILL"),
    "killed in validation": ("measure", 2, 1, KILL, "worker 1 .*validation after step 8"),
    "killed while logging": ("logged", 6, 0, KILL, "worker 0 .* was killed by SIGKILL"),
    "out of memory": ("step", 5, 1, MEMORY, "ended with status 1; .*said: MemoryError: no more"),
    "out of memory, the first": ("step", 5, 0, MEMORY, "worker 0 .* ended with status 1"),
    "leaves early": ("step", 5, 1, LEAVE, "worker 1 .* ended before the others"),
}  # fmt: skip


SELDOM = (
    "killed before a rename", "killed while logging", "out of memory, the first", "leaves early",
    "killed before a step", "crashed in a step", "killed in validation",
)  # fmt: skip


@pytest.mark.parametrize(
    "fault", [pytest.param(f, marks=pytest.mark.full if f in SELDOM else ()) for f in FAULTS]
)
def test_a_worker_ends(tiny_data: Path, undisturbed: Path, tmp_path: Path, fault: str) -> None:
    event, count, rank, number, text = FAULTS[fault]
    plan = {"event": event, "count": count, "rank": rank, "number": int(number)}
    run = start(tmp_path, "--data", tiny_data, "--workers", 2, plan=plan)
    assert run.wait() == 1, run.said()
    assert re.search(text, run.said()), run.said()
    assert re.search("last checkpoint .* go on with --resume", run.said()), run.said()
    if rank == 0 or event == "measure":  # where the state of the run is of one kind after all
        go_on(tmp_path, undisturbed)


def test_killed_while_starting(tiny_data: Path, tmp_path: Path) -> None:
    run = start(tmp_path, "--data", tiny_data, "--workers", 3)
    assert until(lambda: len(workers(run)) == 3)
    os.kill(workers(run)[1], KILL)
    assert run.wait() == 1
    assert re.search("worker . .* was killed by SIGKILL.*it was at: starting", run.said())
    assert not (tmp_path / "run").exists()  # nothing was in it


def test_a_death_is_named_within_a_second(tiny_data: Path, tmp_path: Path) -> None:
    run = start(tmp_path, "--data", tiny_data, "--workers", 2, "--epochs", 2000)
    _wait_for_steps(run, tmp_path)
    os.kill(workers(run)[-1], KILL)
    assert until(lambda: "was killed by SIGKILL" in run.said(), 1.0)
    assert run.wait() == 1


@pytest.mark.parametrize(
    ("target", "number", "code"),
    [
        ("launcher", INTERRUPT, 130),
        pytest.param("launcher", TERMINATE, 143, marks=pytest.mark.full),
        pytest.param("worker 0", INTERRUPT, 130, marks=pytest.mark.full),
        ("worker 1", TERMINATE, 143),
    ],
)
def test_a_signal_stops_all_at_one_step(
    tiny_data: Path, tmp_path: Path, target: str, number: int, code: int
) -> None:
    run = start(tmp_path, "--data", tiny_data, "--workers", 2, "--epochs", 2000)
    _wait_for_steps(run, tmp_path)
    place = run.process.pid if target == "launcher" else workers(run)[int(target[-1])]
    os.kill(place, number)
    assert run.wait() == code, run.said()
    assert "stopped at step" in run.output.read_text()
    saved = load_checkpoint(tmp_path / "run").meta["step"]
    assert [line["step"] for line in metrics(tmp_path / "run") if line["kind"] == "train"][
        -1
    ] == saved


@pytest.mark.full
def test_two_signals_stop_at_once(tiny_data: Path, tmp_path: Path) -> None:
    run = start(tmp_path, "--data", tiny_data, "--workers", 2, "--epochs", 2000)
    _wait_for_steps(run, tmp_path)
    for worker in workers(run):
        os.kill(worker, STOP)  # or the first would be enough
    for _ in range(2):
        run.process.send_signal(INTERRUPT)
        time.sleep(0.2)
    for worker in workers(run):
        os.kill(worker, signal.SIGCONT)
    assert run.wait() == 130, run.said()


@pytest.mark.parametrize("stopped", [False, pytest.param(True, marks=pytest.mark.full)])
def test_a_killed_launcher_leaves_nobody(tiny_data: Path, tmp_path: Path, stopped: bool) -> None:
    run = start(tmp_path, "--data", tiny_data, "--workers", 2, "--epochs", 2000)
    _wait_for_steps(run, tmp_path)
    if stopped:
        os.kill(workers(run)[0], STOP)
    run.process.kill()
    assert run.wait() == -KILL  # which looks that nobody is left


@pytest.mark.full
def test_a_stopped_worker_is_reported_and_ended(tiny_data: Path, tmp_path: Path) -> None:
    run = start(tmp_path, "--data", tiny_data, "--workers", 2, "--epochs", 2000, "--patience", 3)
    _wait_for_steps(run, tmp_path)
    os.kill(workers(run)[1], STOP)
    assert run.wait() == 1
    assert re.search(r"others wait for worker . .*: it is stopped by a signal", run.said())
    assert re.search(r"has kept others waiting for \d+ s: ended", run.said())


def test_a_full_disk_at_a_checkpoint(tiny_data: Path, undisturbed: Path, tmp_path: Path) -> None:
    plan = {"event": "write", "count": 3, "rank": 0, "number": -2}
    run = start(tmp_path, "--data", tiny_data, "--workers", 2, plan=plan)
    assert run.wait() == 1
    assert "No space left on device" in run.said()
    assert not list((tmp_path / "run").glob(".*"))
    go_on(tmp_path, undisturbed)


def test_a_shard_cut_while_training(tiny_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    run = start(tmp_path, "--data", data, "--workers", 2, "--epochs", 2000)
    _wait_for_steps(run, tmp_path)
    shard = max(data.glob("*.npy"), key=lambda path: path.stat().st_size)
    os.truncate(shard, shard.stat().st_size // 2)
    assert run.wait() == 1
    assert shard.name in run.said() or "SIGBUS" in run.said(), run.said()


def loaders(run: Run) -> list[int]:
    """Give the loader processes of a run."""
    found = []
    for worker in workers(run):
        children = Path(f"/proc/{worker}/task/{worker}/children")
        found += [int(one) for one in children.read_text().split()]
    return found


@pytest.mark.parametrize("elastic", [False, pytest.param(True, marks=pytest.mark.full)])
def test_a_loader_is_killed(tiny_data: Path, tmp_path: Path, elastic: bool) -> None:
    more = ["--elastic"] if elastic else []
    words = ["--data", tiny_data, "--workers", 2, "--epochs", 2000, *more]
    run = start(tmp_path, *words, loading="process")
    _wait_for_steps(run, tmp_path)
    first = loaders(run)
    assert len(first) == 2
    os.kill(first[1], KILL)
    assert until(lambda: "the loader process" in run.said(), 5.0)
    if elastic:
        assert until(lambda: "going on with 2 processes" in run.said())
        assert until(lambda: len(loaders(run)) == 2)
        run.process.send_signal(TERMINATE)
        assert run.wait() in (130, 143)
    else:
        assert run.wait() == 71
        assert re.search("the loader process .* was killed by SIGKILL", run.said())
    assert until(lambda: not any(map(is_alive, first)), 1.0)


@pytest.mark.parametrize(
    ("number", "code"), [(INTERRUPT, 130), pytest.param(TERMINATE, 143, marks=pytest.mark.full)]
)
def test_a_signal_while_all_wait_for_images(
    tiny_data: Path, undisturbed: Path, tmp_path: Path, number: int, code: int
) -> None:
    """Worker 0 stops itself, and loaders are stopped then: workers wait for what never comes."""
    plan = {"event": "step", "count": 3, "rank": 0, "number": int(STOP)}
    run = start(tmp_path, "--data", tiny_data, "--workers", 2, plan=plan, loading="process")
    assert until(lambda: any(state(one) == "T" for one in workers(run)))
    found = loaders(run)
    assert len(found) == 2
    for one in found:
        os.kill(one, STOP)
    for one in workers(run):
        if state(one) == "T" and one not in found:
            os.kill(one, signal.SIGCONT)
    steps = -1
    log = tmp_path / "run" / "metrics.jsonl"
    while steps != len(log.read_text().splitlines()):  # those whose images were ready already
        steps = len(log.read_text().splitlines())
        time.sleep(0.5)
    assert run.process.poll() is None
    began = time.monotonic()
    os.kill(run.process.pid, number)
    assert run.wait() == code, run.said()
    assert time.monotonic() - began < 10
    assert "stopped at step" in run.output.read_text()
    assert load_checkpoint(tmp_path / "run").meta["step"] < 16
    assert until(lambda: not any(map(is_alive, found)), 1.0)
    if number == TERMINATE:
        go_on(tmp_path, undisturbed)


def state(process: int) -> str:
    """Give the letter of the system for what a process does."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.full
def test_two_signals_while_all_wait_for_images(tiny_data: Path, tmp_path: Path) -> None:
    """At once, without a checkpoint of this moment, and nobody is left."""
    words = ["--data", tiny_data, "--workers", 2, "--epochs", 2000]
    run = start(tmp_path, *words, loading="process")
    _wait_for_steps(run, tmp_path)
    for one in loaders(run):
        os.kill(one, STOP)
    for worker in workers(run):  # or the first signal would be enough
        if worker not in loaders(run):
            os.kill(worker, STOP)
    for _ in range(2):
        run.process.send_signal(INTERRUPT)
        time.sleep(0.2)
    for worker in workers(run):
        if worker not in loaders(run):
            os.kill(worker, signal.SIGCONT)
    assert run.wait() == 130, run.said()


@pytest.mark.parametrize("stopped", [pytest.param(False, marks=pytest.mark.full), True])
def test_a_killed_launcher_leaves_no_loader(tiny_data: Path, tmp_path: Path, stopped: bool) -> None:
    words = ["--data", tiny_data, "--workers", 2, "--epochs", 2000]
    run = start(tmp_path, *words, loading="process")
    _wait_for_steps(run, tmp_path)
    found = loaders(run)
    if stopped:
        os.kill(found[0], STOP)
    run.process.kill()
    assert run.wait() == -KILL
    assert until(lambda: not any(map(is_alive, found)), 1.0)


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.full)])
def test_elastic_goes_on_from_the_last_checkpoint(
    tiny_data: Path, undisturbed: Path, tmp_path: Path, rank: int
) -> None:
    """The plan strikes again at the fifth step after each start, until fewer remain."""
    plan = {"event": "step", "count": 7, "rank": rank, "number": int(KILL)}
    run = start(tmp_path, "--data", tiny_data, "--workers", 2, "--elastic", plan=plan)
    code = run.wait()
    assert "going on with 2 processes from" in run.said()
    assert code == 0, run.said()
    assert metrics(tmp_path / "run") == metrics(undisturbed)


@pytest.mark.full
def test_elastic_with_fewer(tiny_data: Path, tmp_path: Path) -> None:
    plan = {"event": "step", "count": 2, "rank": 1, "number": int(KILL)}
    run = start(tmp_path, "--data", tiny_data, "--workers", 2, "--elastic", plan=plan)
    assert run.wait() == 0, run.said()
    assert "going on with 2 processes" in run.said()
    assert "going on with 1 process from" in run.said()


def _wait_for_steps(run: Run, folder: Path) -> None:
    """Wait until it trains, two steps after its first checkpoint."""
    log = folder / "run" / "metrics.jsonl"
    assert until(lambda: log.exists() and len(log.read_text().splitlines()) > 2), run.said()
    assert list_checkpoints(folder / "run")
