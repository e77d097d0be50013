"""What a run refuses: other settings, data and models, damaged files; and that nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models.common import trainer
from models.common.classifier import Classifier
from symgraph.errors import (
    ArgumentError,
    CheckpointError,
    CheckpointMissingError,
    DataError,
    SymgraphError,
)
from symgraph.io import list_checkpoints, load_checkpoint
from tests.models.conftest import write_images
from tests.models.runs import metrics, other, parse
from tests.models.tiny import MODEL

pytestmark = pytest.mark.usefixtures("no_pictures")


def unchanged(
    run: Path, model: Classifier, kind: type[SymgraphError], text: str, *flags: Any
) -> Any:
    """Check that a resume is refused with a message, and that not a byte changed."""
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(kind, match=text) as caught:
        trainer.train(model, parse("--resume", run, *flags))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("flag", "value", "before"),
    [("--batch", 4, 8), ("--seed", 3, 0), ("--learning-rate", 0.5, 0.05)],
)
def test_other_settings_are_refused(run: Path, flag: str, value: Any, before: Any) -> None:
    text = f"written with {flag} {before}, not {value}: it would not be the same run"
    error = unchanged(run, MODEL, CheckpointError, text, flag, value)
    assert f"leave {flag} out" in error.fix
    assert trainer.train(MODEL, parse("--resume", run, flag, before)) == 0


def prepared(tmp_path: Path, names: tuple[str, ...], seed: int) -> Path:
    source = write_images(tmp_path / "images", names, seed)
    sg.data.prepare(source, tmp_path / "set", 16, shard_images=8, validation=1 / 6, jobs=1)
    return tmp_path / "set"


def test_other_data_are_refused(run: Path, tmp_path: Path, tiny_data: Path) -> None:
    classes = prepared(tmp_path / "classes", ("cat", "dog", "eel"), 1)
    error = unchanged(run, MODEL, CheckpointError, "the classes differ", "--data", classes)
    assert str(tiny_data) in error.fix
    pixels = prepared(tmp_path / "pixels", ("red", "green", "blue"), 2)
    unchanged(run, MODEL, CheckpointError, "the mean image differ", "--data", pixels)
    unchanged(run, MODEL, CheckpointError, "the classes differ", "--data", "digits")
    unchanged(run, MODEL, DataError, "does not exist", "--data", tmp_path / "nothing")


def test_the_same_data_may_have_moved(run: Path, tmp_path: Path, tiny_data: Path) -> None:
    moved = shutil.copytree(tiny_data, tmp_path / "moved")
    assert trainer.train(MODEL, parse("--resume", run, "--data", moved, "--epochs", 5)) == 0
    assert load_checkpoint(run).meta["settings"]["data"] == str(moved)


def test_other_models_are_refused(run: Path) -> None:
    unchanged(
        run, other(name="huge"), CheckpointError, "is not a checkpoint of huge: it holds tiny"
    )
    adam = other(optimizer=lambda net, lr: sg.optim.Adam(net.parameters(), lr))
    unchanged(run, adam, CheckpointError, "does not fit tiny")
    small = other(
        build=lambda classes: sg.nn.Sequential(sg.nn.Flatten(), sg.nn.Dense(432, classes))
    )
    unchanged(run, small, CheckpointError, "does not fit tiny: .* missing, .* surplus")


def test_a_damaged_checkpoint_names_the_one_before(run: Path) -> None:
    older, last = list_checkpoints(run)[-2:]
    last.write_bytes(last.read_bytes()[:-100])
    error = unchanged(run, MODEL, CheckpointError, "checkpoint")
    assert str(older) in error.fix
    assert trainer.train(MODEL, parse("--resume", older)) == 0


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("classes", 3, "no usable `classes`"),
        ("data_cursor", None, "no usable `data_cursor`"),
        ("settings", {"data": 1}, "no usable setting `data`"),
        ("task", "diffusion", "it holds tiny"),
        ("random_state", {"seed": 0}, "random state"),
        (
            "data_cursor",
            {"epoch": -1, "position": 0, "seed": 0, "images": 30},
            "epoch and position",
        ),
        ("schedule", {"rate": 1.0}, "the state lacks"),
    ],
)
def test_hostile_documents_are_refused(run: Path, key: str, value: Any, text: str) -> None:
    found = load_checkpoint(run)
    path = list_checkpoints(run)[-1]
    sg.io.save_checkpoint(path, found.tensors, {**found.meta, key: value})
    with pytest.raises(SymgraphError, match=text):
        trainer.train(MODEL, parse("--resume", run))


def test_out_of_a_resumed_run(run: Path, tmp_path: Path) -> None:
    text = "a resumed run goes on in its own folder"
    unchanged(run, MODEL, ArgumentError, text, "--out", tmp_path / "elsewhere")
    assert trainer.train(MODEL, parse("--resume", "--out", run)) == 0


def test_nothing_to_resume(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for flags in (("--resume",), ("--resume", "gone.safetensors"), ("--resume", "--out", "gone")):
        with pytest.raises(CheckpointMissingError, match="checkpoint"):
            trainer.train(MODEL, parse("--data", tiny_data, *flags))


def test_a_new_run_does_not_write_into_an_old_one(run: Path, tiny_data: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(ArgumentError, match="holds a run already") as caught:
        trainer.train(MODEL, parse("--data", tiny_data, "--out", run))
    assert "--resume" in caught.value.fix
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_diverged_run_says_so_and_keeps_its_checkpoints(tiny_data: Path, tmp_path: Path) -> None:
    wild = other(
        optimizer=lambda net, lr: sg.optim.SGD(net.parameters(), lr),
        schedule=lambda lr: sg.optim.Steps(lr, at=()),
    )
    flags = ("--data", tiny_data, "--out", tmp_path, "--learning-rate", 1e30, "--quiet")
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            SymgraphError, match=r"the loss of step \d+ is (nan|inf): training div"
        ) as caught,
    ):
        trainer.train(wild, parse(*flags, "--checkpoint-every", 1))
    assert "smaller --learning-rate" in caught.value.fix
    assert str(list_checkpoints(tmp_path)[-1]) in caught.value.details[0]
    for path in list_checkpoints(tmp_path):
        loss = load_checkpoint(path).meta["step"]
        assert loss < metrics(tmp_path)[-1]["step"]


def test_missing_matplotlib_is_told_before_the_work(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(SymgraphError, match="pictures need matplotlib"):
        trainer.train(MODEL, parse("--data", tiny_data, "--out", tmp_path / "run"))
    assert not (tmp_path / "run").exists()
