"""Vision transformers: sizes, what is published, update rule, schedule, the program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models import vit
from models.common.classifier import inputs, train_step
from models.common.commandline import exit_with
from models.vit import SIZES, VisionTransformer, classifier
from symgraph.errors import ArgumentError, CheckpointError
from symgraph.io import load_checkpoint
from tests.models.runs import check_hostile, check_whole_life, metrics


def narrow(**options: Any) -> VisionTransformer:
    """Make a small net for images of 12 pixels in 9 patches."""
    sg.seed(3)
    return VisionTransformer(8, 2, 2, 4, crop=12, patch=4, **options)


# -- the network -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count"), [("Ti", 5_717_416), ("S", 22_050_664), ("B", 86_567_656)]
)
def test_number_of_parameters(size: str, count: int) -> None:
    """As DeiT's authors and torchvision count them; one block is made, the others are like it."""
    features, blocks, heads = SIZES[size]
    net = VisionTransformer(features, 1, heads)
    assert net.count() + (blocks - 1) * net.blocks[0].count() == count


def test_shapes_and_words() -> None:
    net = narrow()
    x, _ = inputs(12)
    assert net(x).shape == (x.shape[0], 4)
    assert net.positions.shape == (1, 10, 8)
    assert net.filters.shape == (8, 3, 4, 4)
    assert len(net.named_parameters()) == 2 + 2 + 2 * 12 + 2 + 2


def test_positions_tell_patches_apart(rng: np.random.Generator) -> None:
    """Without them attention sees a bag of patches."""
    net = narrow()
    net.head.weight.value = rng.normal(size=(8, 4)).astype(np.float32)
    net.positions.value = rng.normal(size=(1, 10, 8)).astype(np.float32)
    f = sg.function([x := sg.tensor("x", (1, 3, 12, 12))], net(x))
    image = rng.normal(0, 60, (1, 3, 12, 12)).astype(np.float32)
    other = np.roll(image, 4, axis=3)
    assert np.abs(f(image) - f(other)).max() > 1e-3
    net.positions.value = np.zeros((1, 10, 8), np.float32)
    np.testing.assert_allclose(f(image), f(other), rtol=1e-4, atol=1e-5)


def test_dropout_is_in_training_only(rng: np.random.Generator) -> None:
    net = narrow(dropout=0.5)
    net.head.weight.value = rng.normal(size=(8, 4)).astype(np.float32)
    x = sg.tensor("x", (2, 3, 12, 12))
    trained, still = (sg.function([x], net(x, train=train)) for train in (True, False))
    image = rng.normal(0, 60, (2, 3, 12, 12)).astype(np.float32)
    np.testing.assert_array_equal(still(image), still(image))
    assert (trained(image) != trained(image)).any()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: VisionTransformer(8, 1, 2, crop=30), "patches of 16 must cover 30 pixels exactly"),
        (lambda: VisionTransformer(8, 1, 2, crop=0), "of which there are 1 .. 4096"),
        (lambda: VisionTransformer(8, 1, 2, crop=4096, patch=1), "patches are more than 16384"),
        (lambda: VisionTransformer(8, 1, 3), "heads must divide features"),
        (lambda: classifier("XL"), "vit: model must be one of Ti, S, B, got 'XL'"),
        (lambda: classifier(crop=0), "vit: crop and patch must lie in 1 .. 4096, got 0 and 16"),
        (lambda: classifier(warmup=0), "vit: epochs and warmup must lie in 1 .."),
    ],
)
def test_wrong_networks(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()


# -- training --------------------------------------------------------------------------------------


def test_update_rule() -> None:
    net = narrow()
    rule = vit.optimizer(net, 0.1)
    decayed, others = rule.groups
    assert (decayed.decay, others.decay, rule.weight_decay, rule.clip_norm) == (None, 0.0, 0.05, 1)
    assert {one.ndim for one in decayed.parameters} == {2, 4}
    kept = [id(one) for one in others.parameters]
    assert id(net.token) in kept
    assert id(net.positions) in kept
    assert len(rule.parameters) == len(net.parameters())


def test_schedule() -> None:
    schedule = classifier(epochs=20, warmup=4).schedule(0.1)
    found = [schedule(epoch) for epoch in (0, 4, 10, 20)]
    expected = [0.01, 0.05 * (1 + np.cos(np.pi / 5)), 0.05, 0.0]
    assert found == pytest.approx(expected)
    assert schedule(2) == pytest.approx(0.55 * 0.05 * (1 + np.cos(np.pi / 10)))


def test_a_step_lowers_the_loss(rng: np.random.Generator) -> None:
    net = narrow()
    train = train_step(net, vit.optimizer(net, 0.01), 12)
    images = rng.normal(0, 60, (8, 3, 12, 12)).astype(np.float32)
    labels = rng.integers(0, 4, 8).astype(np.int32)
    losses = [float(train(images, labels)) for _ in range(20)]
    assert losses[0] == pytest.approx(np.log(4), rel=1e-4)  # the last layer begins with zeros
    assert losses[-1] < 0.5 * losses[0]


# -- the program -----------------------------------------------------------------------------------


def call(*arguments: Any) -> int:
    return vit.main([str(one) for one in arguments])


@pytest.fixture
def _tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all sizes tiny."""
    monkeypatch.setattr(vit, "SIZES", {"Ti": (8, 1, 2), "S": (12, 1, 2), "B": (16, 1, 2)})


@pytest.mark.usefixtures("no_pictures", "_tiny_sizes")
def test_train_resume_evaluate_predict(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--model", "S", "--crop", 12, "--patch", 6, "--warmup", 1)
    run = check_whole_life(vit.main, flags, tiny_data, tmp_path, capsys)
    wanted = {"model": "S", "crop": 12, "patch": 6, "warmup": 1, "epochs": 2}
    assert wanted.items() <= load_checkpoint(run).meta["settings"].items()
    assert len({one["learning_rate"] for one in metrics(run) if one["kind"] == "train"}) == 2
    with pytest.raises(CheckpointError, match="written with --patch 6, not 4"):
        call("--resume", run, "--patch", 4)
    check_hostile(vit.main, run, tmp_path, {
        "model": ("XL", "one of Ti, S, B"),
        "patch": (-1, "must lie in"),
        "warmup": (0, "must lie in"),
        "crop": (13, "exactly"),
    })  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "crop", "patch"),
    [
        ("", 28, 7), ("--data flowers", 224, 16), ("--data flowers --crop 64", 64, 16),
        ("--patch 14", 28, 14),
    ],
)  # fmt: skip
def test_crop_and_patch_suit_the_images(flags: str, crop: int, patch: int) -> None:
    chosen = vit.make_parser().parse_args(flags.split())
    vit.settle(chosen)
    assert (chosen.crop, chosen.patch) == (crop, patch)
    model = vit.MODEL.with_settings(vars(chosen))
    assert (model.crop, model.settings["model"], model.settings["epochs"]) == (crop, "Ti", 20)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("--model L", 2, "--model: invalid choice: 'L' (choose from Ti, S, B)"),
        ("--patch 0", 2, "--patch: must be a whole number of at least 1, not '0'"),
        ("--patch 5", 1, "patches of 5 must cover 28 pixels exactly"),
        ("--crop 5000", 1, "vit: crop and patch must lie in 1 .. 4096, got 5000 and 7"),
        ("evaluate --model S", 2, "unrecognized arguments: --model S"),
        ("evaluate", 1, "no folder runs/vit-*"),
    ],
)
def test_wrong_command_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: str, code: int, text: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        exit_with(lambda: vit.main(arguments.split()))
    assert stopped.value.code == code
    assert text in capsys.readouterr().err.replace("'Ti', 'S', 'B'", "Ti, S, B")
    assert not list(tmp_path.iterdir())


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        vit.main(["--help"])
    shown = capsys.readouterr().out
    assert "--model {Ti,S,B}" in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.full
def test_it_learns_the_digits(tmp_path: Path) -> None:
    """Four patches and a few epochs, for the time it takes."""
    flags = ("--patch", 14, "--epochs", 6, "--warmup", 1, "--out", tmp_path / "run", "--quiet")
    assert call(*flags) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(line).get("accuracy", 0) for line in lines) >= 0.8
