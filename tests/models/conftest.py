"""A tiny data set of real files, and a server that runs and kills the tiny model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common import loop, trainer

ROOT = Path(__file__).parent.parent.parent
COUNTS = (12, 11, 13)  # images of each class; 30 to train on, 6 to validate with


def write_images(folder: Path, names: tuple[str, ...], seed: int = 1) -> Path:
    """Write noisy pictures, each class with a colour of its own."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(seed)
    for label, (name, count) in enumerate(zip(names, COUNTS)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 140, (16, 16, 3))
            pixels[:, :, label] += 100
            image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prepared data set: 30 and 6 images of 16 x 16 in three classes."""
    from symgraph.data import prepare

    for package in ("PIL", "safetensors", "matplotlib"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("tiny")
    source = write_images(folder / "source", ("red", "green", "blue"))
    prepare(source, folder / "set", 16, shard_images=8, validation=1 / 6, jobs=1)
    return folder / "set"


@dataclass
class Done:
    """How a run ended: negative codes are signals."""

    code: int
    text: str


class Server:
    """Runs command lines of the tiny model in children of one warm process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "models" / "tiny.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
        )  # fmt: skip

    def run(self, *arguments: Any, **plan: Any) -> Done:
        """Run to the end; `event`, `count`, `signal` or `after`, `signal` say how it is killed."""
        self.number += 1
        output = self.folder / f"output-{self.number}.txt"
        job = {"arguments": [str(one) for one in arguments], "output": str(output), **plan}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        code = json.loads(self.process.stdout.readline())["code"]
        return Done(code, output.read_text())

    def close(self) -> None:
        """Let the server end."""
        self.process.communicate()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a warm server."""
    found = Server(tmp_path_factory.mktemp("server"))
    yield found
    found.close()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save half a second for each picture; the reference run of the server draws them."""
    monkeypatch.setattr(loop, "plot_curves", lambda *args, **options: None)
    monkeypatch.setattr(trainer, "plot_filters", lambda *args, **options: None)


@pytest.fixture(scope="session")
def reference(server: Server, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nobody disturbed; it draws its pictures too."""
    folder = tmp_path_factory.mktemp("reference")
    done = server.run("train", "--data", tiny_data, "--out", folder, pictures=True)
    assert done.code == 0, done.text
    return folder


@pytest.fixture
def run(reference: Path, tmp_path: Path) -> Path:
    """Return a copy of the undisturbed run."""
    return Path(shutil.copytree(reference, tmp_path / "run"))
