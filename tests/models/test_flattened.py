"""Flattened networks: what is published of them, update rule, schedule, the program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models import flattened
from models.common.classifier import inputs, train_step
from models.common.commandline import exit_with
from models.flattened import FlattenedNet, classifier
from symgraph.errors import ArgumentError, CheckpointError
from symgraph.io import load_checkpoint
from tests.models.runs import check_hostile, check_whole_life


@pytest.fixture
def _few_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all layers tiny."""
    monkeypatch.setattr(flattened, "FILTERS", (4, 6, 8))


# -- the network -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "count"), [("dense", 1_134_080), ("flattened", 148_960)])
def test_number_of_parameters_as_published(kind: str, count: int) -> None:
    """96, 128 and 256 filters of 5 x 5: 13 % are left, biases counted."""
    assert FlattenedNet(kind).features.count() == count


@pytest.mark.parametrize("kind", ["dense", "flattened"])
@pytest.mark.parametrize(("crop", "side"), [(28, 3), (16, 2), (8, 1)])
def test_shapes(kind: str, crop: int, side: int) -> None:
    net = FlattenedNet(kind, 7, crop=crop)
    x, _ = inputs(crop)
    assert net.features(x).shape == (x.shape[0], 256, side, side)
    assert net(x).shape == (x.shape[0], 7)
    assert net.filters.shape == ((96, 3, 5, 5) if kind == "dense" else (96, 3, 9, 9))


def test_the_kinds_differ_in_their_convolutions_only() -> None:
    nets = [FlattenedNet(kind, crop=16) for kind in ("dense", "flattened")]
    assert len({net.classifier.count() for net in nets}) == 1
    names = [[name for name, _ in net.features.named_parameters()] for net in nets]
    assert [len(each) for each in names] == [6, 36]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FlattenedNet("sparse"), "kind must be one of flattened, dense, got 'sparse'"),
        (lambda: FlattenedNet(crop=7), "crop must lie in 8 .. 256, got 7"),
        (lambda: FlattenedNet(crop=257), "crop must lie in 8 .. 256, got 257"),
        (lambda: FlattenedNet(stages=0), "stages must lie in 1 .. 16, got 0"),
        (lambda: classifier(crop=0), "flattened: crop must lie in 1 .. 256, got 0"),
        (lambda: classifier(epochs=0), "flattened: epochs must lie in 1 .. "),
    ],
)
def test_wrong_networks(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()


# -- training --------------------------------------------------------------------------------------


def test_update_rule() -> None:
    net = FlattenedNet(crop=8)
    rule = flattened.optimizer(net, 0.1)
    decayed, others = rule.groups
    assert (decayed.decay, others.decay, rule.weight_decay) == (None, 0.0, 5e-4)
    assert len(rule.parameters) == len(net.parameters())
    assert {one.ndim for one in others.parameters} == {1}


def test_the_rate_falls_to_zero() -> None:
    schedule = classifier(epochs=20).schedule(0.1)
    assert [schedule(epoch) for epoch in (0, 10, 20)] == pytest.approx([0.1, 0.05, 0.0])


@pytest.mark.usefixtures("_few_filters")
@pytest.mark.parametrize("kind", ["dense", "flattened"])
def test_a_step_lowers_the_loss(rng: np.random.Generator, kind: str) -> None:
    sg.seed(1)
    net = FlattenedNet(kind, 4, crop=8)
    train = train_step(net, flattened.optimizer(net, 0.1), 8)
    images = rng.normal(0, 60, (8, 3, 8, 8)).astype(np.float32)
    labels = rng.integers(0, 4, 8).astype(np.int32)
    losses = [float(train(images, labels)) for _ in range(40)]
    assert losses[-1] < 0.6 * losses[0]


# -- the program -----------------------------------------------------------------------------------


def call(*arguments: Any) -> int:
    return flattened.main([str(one) for one in arguments])


@pytest.mark.usefixtures("no_pictures", "_few_filters")
def test_train_resume_evaluate_predict(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--crop", 12, "--stages", 1)
    run = check_whole_life(flattened.main, flags, tiny_data, tmp_path, capsys)
    wanted = {"kind": "flattened", "crop": 12, "stages": 1, "epochs": 2}
    assert wanted.items() <= load_checkpoint(run).meta["settings"].items()
    with pytest.raises(CheckpointError, match="written with --stages 1, not 2"):
        call("--resume", run, "--stages", 2)
    check_hostile(flattened.main, run, tmp_path, {
        "kind": ("sparse", "one of flattened, dense"),
        "stages": (0, "must lie in 1 .. 16"),
        "crop": (4, "must lie in 8 .. 256"),
    })  # fmt: skip


@pytest.mark.usefixtures("no_pictures", "_few_filters")
def test_cifar_is_trained_on_as_it_is_published(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("safetensors")
    (tmp_path / "set").mkdir()
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        records = rng.integers(0, 256, (2, 3073), dtype=np.uint8)
        records[:, 0] = rng.integers(0, 10, 2)
        (tmp_path / "set" / name).write_bytes(records.tobytes())
    flags = ("--kind", "dense", "--epochs", 1, "--batch", 5, "--quiet", "--out", tmp_path / "run")
    assert call("--data", tmp_path / "set", *flags) == 0
    assert "2 images" in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "crop"), [("", 16), ("--data x", 28), ("--crop 24", 24)])
def test_the_crop_suits_the_images(flags: str, crop: int) -> None:
    chosen = flattened.make_parser().parse_args(flags.split())
    flattened.settle(chosen)
    assert flattened.MODEL.with_settings(vars(chosen)).crop == chosen.crop == crop


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("--kind thin", 2, "--kind: invalid choice: 'thin' (choose from flattened, dense)"),
        ("--stages 0", 2, "--stages: must be a whole number of at least 1, not '0'"),
        ("--crop 300", 1, "flattened: crop must lie in 1 .. 256, got 300"),
        ("evaluate --kind dense", 2, "unrecognized arguments: --kind dense"),
        ("evaluate", 1, "no folder runs/flattened-*"),
    ],
)
def test_wrong_command_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: str, code: int, text: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        exit_with(lambda: flattened.main(arguments.split()))
    assert stopped.value.code == code
    assert text in capsys.readouterr().err.replace("'flattened', 'dense'", "flattened, dense")
    assert not list(tmp_path.iterdir())


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        flattened.main(["--help"])
    shown = capsys.readouterr().out
    assert "--kind {flattened,dense}" in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.full
def test_it_learns_the_digits(tmp_path: Path) -> None:
    flags = ("--epochs", 4, "--out", tmp_path / "run", "--quiet")
    assert call(*flags) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(line).get("accuracy", 0) for line in lines) >= 0.95
