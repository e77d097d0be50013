"""Workers that mpiexec starts: the same training, one voice, and an end when one of them dies."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from symgraph.errors import WorkerError
from symgraph.io import latest_checkpoint, load_checkpoint
from symgraph.parallel import mpi
from tests.parallel.engines import differ, leftovers, train, words

WITHOUT = "mpi4py and MPICH are not installed: `tox -e engines` installs them and runs these tests"
_BESIDE = Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(_BESIDE) if _BESIDE.exists() else shutil.which("mpiexec")

needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or MPIEXEC is None, reason=WITHOUT
)


def start(ranks: int, *arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the tiny model by mpiexec."""
    command = [str(MPIEXEC), "-n", str(ranks), *words(*arguments, "--engine", "mpi")]
    return train(command, environment)


@needs_mpi
def test_two_ranks_are_two_workers_bit_by_bit(tiny_data: Path, tmp_path: Path) -> None:
    done = start(2, "--data", tiny_data, "--out", tmp_path / "mpi", "--max-steps", 5)
    assert done.returncode == 0, done
    assert "ranks 2 nodes 1 same bits True" in done.stdout
    assert done.stdout.count("checkpoint ") == 1
    assert done.stderr == ""
    local = train(words("--data", tiny_data, "--out", tmp_path / "local", "--max-steps", 5,
                        "--workers", 2))  # fmt: skip
    assert local.returncode == 0, local
    assert differ(tmp_path / "mpi", tmp_path / "local") == 0


@needs_mpi
@pytest.mark.parametrize("average", ["params", "grads"])
def test_two_nodes_are_one_but_for_rounding(tiny_data: Path, tmp_path: Path, average: str) -> None:
    common = ("--data", tiny_data, "--max-steps", 5, "--average", average)
    done = start(3, *common, "--out", tmp_path / "mpi", TEST_NODES="0,1,0")
    assert done.returncode == 0, done
    assert "ranks 3 nodes 2 same bits True" in done.stdout
    local = train(words(*common, "--out", tmp_path / "local", "--workers", 3))
    assert local.returncode == 0, local
    assert differ(tmp_path / "mpi", tmp_path / "local") < 1e-5


@needs_mpi
@pytest.mark.parametrize("dead", [0, 1])
def test_a_death_ends_the_job_and_leaves_nothing(
    tiny_data: Path, tmp_path: Path, dead: int
) -> None:
    out = tmp_path / "run"
    Path(f"{out}.accident").write_text(f"kill {dead} 4", encoding="utf-8")
    shared, begun = set(os.listdir("/dev/shm")), time.monotonic()
    done = start(2, "--data", tiny_data, "--out", out)
    assert done.returncode != 0
    assert time.monotonic() - begun < 100
    assert leftovers(out) == []
    assert set(os.listdir("/dev/shm")) <= shared
    again = start(2, "--data", tiny_data, "--resume", out, "--max-steps", 6)
    assert again.returncode == 0, again
    assert load_checkpoint(latest_checkpoint(out)).meta["step"] == 6


@needs_mpi
@pytest.mark.parametrize(("who", "said"), [(-1, ""), (1, "worker 1: ")])
def test_an_error_ends_all_and_is_told_once(
    tiny_data: Path, tmp_path: Path, who: int, said: str
) -> None:
    out = tmp_path / "run"
    Path(f"{out}.accident").write_text(f"raise {who} 3", encoding="utf-8")
    done = start(2, "--data", tiny_data, "--out", out)
    assert done.returncode != 0
    assert f"{said}error: an accident." in done.stderr
    assert done.stderr.count("an accident") == 1, done.stderr
    assert leftovers(out) == []


@needs_mpi
def test_without_mpiexec_it_trains_alone_and_says_so(tiny_data: Path, tmp_path: Path) -> None:
    command = words("--data", tiny_data, "--out", tmp_path / "run", "--max-steps", 2)
    done = train([*command, "--engine", "mpi"])
    assert done.returncode == 0, done
    assert "mpiexec has not started this: training alone" in done.stdout


@needs_mpi
def test_flags_that_contradict_mpiexec(tiny_data: Path, tmp_path: Path) -> None:
    common = ("--data", tiny_data, "--out", tmp_path / "run")
    for flags, message in (
        (("--workers", 3), "3 processes were asked for, mpiexec has started 2"),
        (("--batch", 1), "--batch 1 is less than one for each of 2 processes"),
    ):
        done = start(2, *common, *flags)
        assert done.returncode == 1
        assert done.stderr.count(message) == 1, done.stderr


@needs_mpi
def test_another_mpiexec_than_that_of_mpi4py_is_noticed(tiny_data: Path, tmp_path: Path) -> None:
    command = words("--data", tiny_data, "--out", tmp_path / "run", "--engine", "mpi")
    done = train(command, {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"})
    assert done.returncode == 1
    assert "mpiexec has started 2 processes, but they do not see each other" in done.stderr
    assert "MPICH" in done.stderr


@needs_mpi
def test_words_of_any_length_memory_and_exchanges(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    done = train([str(MPIEXEC), "-n", "4", sys.executable, str(script)])
    assert done.returncode == 0, done
    assert done.stdout.split() == ["good"]


_SCRIPT = """
import os
import numpy as np
from symgraph.parallel import mpi

team = mpi.join([0, 0, 1, 1])
for size in (0, 1, 60, 61, 5000):
    words = [bytes([rank]) * (size * rank) for rank in range(4)]
    assert team.gather(words[team.rank]) == words
files = set(os.listdir("/proc/self/fd"))
regions = team.node.share(100)
regions[team.node.rank][:] = team.rank
team.gather()
assert [int(one[-1]) for one in regions] == [team.rank // 2 * 2, team.rank // 2 * 2 + 1]
if team.leaders is not None:
    found = np.zeros(3, np.float32)
    other = 1 - team.leaders.rank
    team.leaders.exchange({other: [np.full(3, team.rank, np.float32)]}, {other: [found]})
    assert found.tolist() == [other * 2] * 3
team.gather()
del regions
assert set(os.listdir("/proc/self/fd")) <= files | {str(n) for n in range(400)}
if team.rank == 0:
    print("good")
team.close()
"""


# -- without MPI -----------------------------------------------------------------------------------


def test_without_mpi4py_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WorkerError, match="mpi4py is not usable") as problem:
        mpi.join()
    assert "pip install 'symgraph[mpi]'" in str(problem.value)
    monkeypatch.setenv("PMI_RANK", "1")  # rank 0 says it
    with pytest.raises(SystemExit):
        mpi.join()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--engine", "mpi", "--elastic"), "MPI ends all processes when one dies"),
        (("--engine", "mpi", "--interface", "10.0.0.1"), "--interface is for --engine ray"),
        (("--nodes", "2"), "--nodes is for --engine ray, not for --engine local"),
        (("--engine", "ray", "--gpus", "2", "--device-map", "0,1"), "it is Ray that gives GPUs"),
    ],
)
def test_flags_of_other_engines(flags: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = train(words("--out", tmp_path / "run", *flags))
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "run").exists()
