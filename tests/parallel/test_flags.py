"""The flags of data parallel training: who computes where, and what contradicts itself."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import pytest

from models.common import workers
from models.common.commandline import build_parser
from symgraph.errors import ArgumentError, DeviceError


def parsed(*words: str) -> argparse.Namespace:
    return build_parser("tiny", "A model.").parse_args(list(words))


def machine(monkeypatch: pytest.MonkeyPatch, devices: int, problem: str = "") -> None:
    found = SimpleNamespace(devices=devices, problem=problem, fix="install a driver")
    monkeypatch.setattr(workers, "status", lambda: found)


@pytest.mark.parametrize(
    ("words", "count"),
    [("", 1), ("--gpus 2", 2), ("--workers 3", 3), ("--gpus 2 --device-map 0,0", 2)],
)
def test_how_many(words: str, count: int) -> None:
    assert workers.wanted_workers(parsed(*words.split())) == count


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--gpus 2 --workers 2", "processes are on GPUs or on cores"),
        ("--workers 2 --device cuda", "--workers is for processes on this machine's cores"),
        ("--gpus 257 --batch 1000", "257 processes are more than the 256 allowed"),
        ("--gpus 4 --batch 3", "--batch 3 is less than one for each of 4 processes"),
        (
            "--gpus 2 --device-map 0",
            "--device-map 0: as many numbers are needed as --gpus says, 1 for 2",
        ),
        ("--workers 2 --device-map 0,1", "--gpus says, 2 for none"),
        ("--gpus 2 --average-every 3", "gradients are averaged in every step"),
        ("--workers 2 --transport peer", "--transport peer is from GPU to GPU"),
        ("--workers 2 --transport nccl", "--transport nccl is from GPU to GPU"),
        ("--gpus 2 --transport nccl --device-map 0,0", "NCCL refuses two processes on one GPU"),
    ],
)
def test_contradictions(words: str, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        workers.wanted_workers(parsed(*words.split()))


def team(rank: int, size: int) -> Any:
    """Give the place of a worker of one machine."""
    here = SimpleNamespace(rank=rank, size=size, nodes=[list(range(size))])
    here.node = here
    return here


def backends(chosen: argparse.Namespace) -> list[Any]:
    count = workers.wanted_workers(chosen)
    return [workers.backend_of(chosen, team(rank, count)) for rank in range(count)]


def test_gpus_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 2)
    assert backends(parsed("--gpus", "2")) == ["cuda:0", "cuda:1"]
    assert backends(parsed("--gpus", "2", "--device-map", "1,1")) == ["cuda:1", "cuda:1"]
    assert backends(parsed("--gpus", "1")) == ["cuda:0"]
    assert backends(parsed("--workers", "2")) == [None, None]
    assert backends(parsed("--device", "cuda")) == ["cuda"]
    assert backends(parsed()) == [None]
    assert workers.transport_of(parsed("--gpus", "2"), team(0, 2)) == "peer"
    assert workers.transport_of(parsed("--gpus", "2", "--transport", "shm"), team(0, 2)) == "shm"
    assert workers.transport_of(parsed("--workers", "2"), team(0, 2)) == "shm"


@pytest.mark.parametrize(
    ("devices", "problem", "text"),
    [(0, "no driver", "no driver"), (1, "", "this machine has 1 GPU, not 2")],
)
def test_gpus_that_are_not(
    monkeypatch: pytest.MonkeyPatch, devices: int, problem: str, text: str
) -> None:
    machine(monkeypatch, devices, problem)
    assert backends(parsed("--gpus", "2")) == [None, None]
    assert workers.transport_of(parsed("--gpus", "2"), team(0, 2)) == "shm"
    with pytest.raises(DeviceError, match=f"--gpus 2 --device cuda: {text}"):
        workers.backend_of(parsed("--gpus", "2", "--device", "cuda"), team(1, 2))


def test_the_line_about_cpu_workers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    machine(monkeypatch, 0, "no driver")
    launched: list[Any] = []

    def launch(command: list[str], count: int, **options: Any) -> Any:
        launched.append((command[1:], count))
        return SimpleNamespace(failed=None, status=0)

    monkeypatch.setattr(workers, "launch", launch)
    monkeypatch.setattr(workers, "program", lambda: ["python", "tiny.py"])
    chosen = parsed("--gpus", "2", "--out", str(tmp_path / "run"))
    assert workers.supervise("tiny", chosen) == 0
    assert capsys.readouterr().out == ("--gpus 2: no driver; 2 CPU workers average as GPUs would\n")
    words = ["tiny.py", "train", "--gpus", "2", "--out", str(tmp_path / "run")]
    assert launched == [([*words, "--out", str(tmp_path / "run")], 2)]
    assert not (tmp_path / "run").exists()
