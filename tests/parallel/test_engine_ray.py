"""Workers that Ray places on two nodes, which are on this machine: training, deaths, restarts."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from symgraph.errors import ArgumentError, WorkerError
from symgraph.io import latest_checkpoint, list_checkpoints, load_checkpoint
from symgraph.parallel import ray
from symgraph.parallel.launch import LOST, Outcome
from tests.parallel.engines import ROOT, differ, leftovers, surroundings, train, words
from tests.parallel.runs import until

WITHOUT = "Ray is not installed: `tox -e engines` installs it and runs these tests"

pytestmark = pytest.mark.timeout(600)  # a cluster starts in 20 s, a run takes as long, on two cores
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason=WITHOUT)


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a cluster with a token and ports on the loopback; give the environment of its users."""
    environment = {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "c" * 40, "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }  # fmt: skip
    log = tmp_path_factory.mktemp("ray") / "log"
    with open(log, "w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))],
            env=surroundings(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors, text=True, cwd=ROOT,
        )  # fmt: skip
    assert process.stdout is not None
    address = next((line.strip() for line in process.stdout if ":" in line.split(" ")[0]), "")
    assert address, log.read_text(encoding="utf-8")
    yield {**environment, "RAY_ADDRESS": address}
    process.communicate(timeout=60)


def start(
    environment: dict[str, str], *arguments: Any, workers: int = 4
) -> subprocess.CompletedProcess[str]:
    """Train the tiny model on the cluster."""
    flags = ("--engine", "ray", "--workers", workers, "--nodes", 2)
    return train(words(*arguments, *flags), environment)


@needs_ray
def test_two_nodes_are_one_but_for_rounding(
    two_nodes: dict[str, str], tiny_data: Path, tmp_path: Path
) -> None:
    # Batch norm of few rows makes rounding larger: four rows for each worker, not two.
    common = ("--data", tiny_data, "--max-steps", 3, "--batch", 16)
    done = start(two_nodes, *common, "--out", tmp_path / "ray")
    assert done.returncode == 0, done
    assert "ranks 4 nodes 2 same bits True" in done.stdout
    assert done.stdout.count("checkpoint ") == 1
    assert done.stderr == ""
    assert leftovers(tmp_path / "ray") == []
    local = train(words(*common, "--out", tmp_path / "local", "--workers", 4))
    assert local.returncode == 0, local
    assert differ(tmp_path / "ray", tmp_path / "local") < 1e-4


@needs_ray
@pytest.mark.parametrize("dead", [0, 3])
def test_a_worker_that_dies_is_named(
    two_nodes: dict[str, str], tiny_data: Path, tmp_path: Path, dead: int
) -> None:
    out = tmp_path / "run"
    Path(f"{out}.accident").write_text(f"kill {dead} 4", encoding="utf-8")
    done = start(two_nodes, "--data", tiny_data, "--out", out)
    assert done.returncode == 1, done
    assert f"worker {dead} (process " in done.stderr
    assert "was killed by SIGKILL" in done.stderr
    assert f"go on with --resume {out}" in done.stderr
    assert leftovers(out) == []


@needs_ray
def test_elastic_goes_on_from_the_last_checkpoint(
    two_nodes: dict[str, str], tiny_data: Path, tmp_path: Path
) -> None:
    common = ("--data", tiny_data, "--max-steps", 6)
    Path(f"{tmp_path / 'run'}.accident").write_text("kill 2 5", encoding="utf-8")
    done = start(two_nodes, *common, "--out", tmp_path / "run", "--elastic")
    assert done.returncode == 0, done
    assert "worker 2 (process " in done.stderr
    assert "going on with 4 processes from" in done.stderr
    assert load_checkpoint(latest_checkpoint(tmp_path / "run")).meta["step"] == 6
    undisturbed = start(two_nodes, *common, "--out", tmp_path / "whole")
    assert undisturbed.returncode == 0, undisturbed
    assert differ(tmp_path / "run", tmp_path / "whole") == 0  # bit by bit


def begin(environment: dict[str, str], out: Path, *arguments: Any) -> subprocess.Popen[str]:
    """Start a slow training, and wait until it is under way."""
    Path(f"{out}.accident").write_text("slow -1 0", encoding="utf-8")
    command = words("--out", out, "--epochs", 100, "--engine", "ray", *arguments)
    process = subprocess.Popen(
        command, env=surroundings(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while len(list_checkpoints(out) if out.exists() else []) < 2 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    assert list_checkpoints(out)
    return process


@needs_ray
def test_a_driver_that_is_killed_leaves_no_worker(
    two_nodes: dict[str, str], tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = begin(two_nodes, out, "--data", tiny_data, "--workers", 4, "--nodes", 2)
    assert leftovers(out, 0.0)
    process.kill()
    process.communicate()
    assert leftovers(out, 40.0) == []


@needs_ray
def test_ports_of_a_cluster_of_our_own_are_on_the_loopback_and_ctrl_c_saves(
    tiny_data: Path, tmp_path: Path
) -> None:
    """Ports of Ray as well, to each of which strangers say nothing, or nonsense, meanwhile."""
    before, out = listening(), tmp_path / "run"
    process = begin({"HOME": str(tmp_path)}, out, "--data", tiny_data, "--workers", 3)
    opened = listening() - before
    with ExitStack() as strangers:
        for _, port in opened:
            for words in (b"", os.urandom(1 << 16), b"\xff" * 4096, b"GET / HTTP/1.1\r\n\r\n"):
                stranger = socket.create_connection(("127.0.0.1", int(port, 16)), timeout=5.0)
                strangers.enter_context(stranger)
                with suppress(OSError):  # it may be turned away at once
                    stranger.sendall(words)
        reached = latest_checkpoint(out)
        assert until(lambda: latest_checkpoint(out) != reached), "it goes on"
        process.send_signal(signal.SIGINT)
        assert until(lambda: process.poll() is not None)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped at step" in said
    assert opened
    assert {address for address, _ in opened} <= {"0100007F", "0" * 16 + "FFFF00000100007F"}
    assert not (tmp_path / ".ray" / "auth_token").exists()
    assert leftovers(out) == []


def listening() -> set[tuple[str, str]]:
    """List the addresses and ports, as the system writes them, to which anybody may connect."""
    found = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(name).read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A":
                address, _, port = local.partition(":")
                found.add((address.lstrip() if len(address) == 8 else address, port))
    return found


@needs_ray
def test_what_the_cluster_does_not_have(
    two_nodes: dict[str, str], tiny_data: Path, tmp_path: Path
) -> None:
    common = ("--data", tiny_data, "--out", tmp_path / "run", "--batch", 16)
    done = start(two_nodes, *common, workers=9)
    assert done.returncode == 1
    assert "no room for 9 workers on 2 machines: the cluster has machines with [2, 2] CPUs" in (
        done.stderr
    )
    assert not (tmp_path / "run").exists()
    done = train(words(*common, "--engine", "ray", "--gpus", 2, "--device", "cuda"), two_nodes)
    assert "--gpus 2 --device cuda: the Ray cluster has 0 GPUs" in done.stderr
    wrong = train(words(*common, "--engine", "ray", "--workers", 2), {"RAY_ADDRESS": "127.0.0.1:1"})
    assert wrong.returncode == 1
    assert "Ray does not answer" in wrong.stderr


# -- without Ray -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "room", "nodes", "right"),
    [
        (1, [8], None, [1]),
        (8, [4, 4, 8], None, [8]),
        (9, [4, 4, 8], None, [8, 1]),
        (3, [2, 2], 2, [2, 1]),
        (6, [1, 8, 2], 3, [3, 2, 1]),
        (5, [8, 8, 8], 2, [3, 2]),
    ],
)
def test_workers_are_divided(
    workers: int, room: Sequence[int], nodes: int | None, right: list[int]
) -> None:
    assert ray.divide(workers, room, nodes) == right


@pytest.mark.parametrize(
    ("workers", "room", "nodes"),
    [(3, [2], None), (3, [1, 1], 2), (2, [4], 2), (1, [4, 4], 2), (1, [], None)],
)
def test_workers_without_room(workers: int, room: Sequence[int], nodes: int | None) -> None:
    with pytest.raises(WorkerError, match=f"no room for {workers} workers"):
        ray.divide(workers, room, nodes)


def test_the_reason_is_the_worker_that_died_not_the_one_that_missed_it() -> None:
    watch = ray._Watch(None, print)
    watch._outcomes = {0: Outcome(LOST), 1: Outcome(1, 3, "worker 3 was killed", True)}
    assert watch._outcome().failed == 3
    watch._outcomes = {0: Outcome(0), 1: Outcome(0)}
    assert watch._outcome() == Outcome(0)
    watch._outcomes = {0: Outcome(130), 1: Outcome(130)}
    assert watch._outcome() == Outcome(130)


def test_without_ray_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    before = dict(os.environ)
    with pytest.raises(WorkerError, match="Ray is not installed") as problem, ray.cluster():
        pass
    assert "pip install 'symgraph[ray]'" in str(problem.value)
    assert dict(os.environ) == before
    with pytest.raises(ArgumentError, match="--interface"), ray.cluster("everywhere"):
        pass
