"""Rapid-INR as a program: encode, compare, train on a set, go on, and what does not fit."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models import rapid_inr
from models.common.commandline import exit_with
from models.common.inr import GREY, Orders, open_grey, pictures, tiles, train
from models.common.pictures import plot_pairs
from symgraph.data import decode, open_inr
from symgraph.errors import ArgumentError, DataError, DataMissingError
from symgraph.nn import Dense, Flatten, Module

pytest.importorskip("sklearn", reason="the images ship with scikit-learn")

QUICK = (
    "--limit", "12", "--size", "8", "--layers", "2", "--width", "6", "--steps", "30",
    "--again", "10", "--quiet",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of twelve digits."""
    path = tmp_path_factory.mktemp("inr") / "digits.safetensors"
    assert rapid_inr.main(["encode", *QUICK, "--out", str(path)]) == 0
    return path


class Flat(Module):
    """One dense layer: what matters here comes before it."""

    def __init__(self, classes: int, crop: int = 7) -> None:
        self.flat, self.last = Flatten(), Dense(3 * crop * crop, classes, weight=sg.nn.init.ZEROS)

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        """Images to logits."""
        return self.last(self.flat(x * (1 / 128)))


def flat(place: Path, **options: Any) -> Any:
    """The model with another network."""

    def variant(**settings: Any) -> Any:
        made = rapid_inr.classifier(**settings)
        return dataclasses.replace(
            made, build=lambda classes: Flat(classes, made.crop), variant=variant,
            first_layer=lambda net: sg.reshape(net.last.weight, (10, 3, made.crop, made.crop)),
        )  # fmt: skip

    return variant(set=str(place), size=8, crop=7, **options)


def test_encode_writes_a_set(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = open_inr(place)
    assert len(made) == 12
    assert [str(layer.weight.dtype) for layer in made.layers] == ["float16", "int8", "float16"]
    originals = pictures("digits", 8, 12)
    assert made.labels.tolist() == originals.labels.tolist()
    for k, image in enumerate(decode(made)):
        error = np.square(image.astype(float) - originals.images[k]).mean()
        assert made.errors[k] == pytest.approx(error)
    assert [path.name for path in place.parent.iterdir()] == [place.name]  # progress is gone


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_encode_goes_on_where_it_was(
    number: signal.Signals, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], place: Path,
) -> None:  # fmt: skip
    told = rapid_inr.Watcher.__call__

    def interrupted(self: rapid_inr.Watcher, course: Any) -> None:
        os.kill(os.getpid(), number)
        told(self, course)

    out = tmp_path / "set.safetensors"
    command = ["encode", *QUICK[:-1], "--out", str(out)]
    with monkeypatch.context() as patched:
        patched.setattr(rapid_inr.Watcher, "__call__", interrupted)
        with pytest.raises(SystemExit) as end:
            rapid_inr.main(command)
    assert end.value.code == code
    assert "the same command goes on from here" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["set.safetensors.fitting"]
    assert rapid_inr.main(command) == 0
    assert out.read_bytes() == place.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["set.safetensors"]


def test_compare_draws_a_picture(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "--size", "8", "--set", str(place), "--images", "3"]
    assert rapid_inr.main(command) == 0
    assert place.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "12 images" in capsys.readouterr().out
    place.with_suffix(".png").unlink()


def test_a_target_that_is_missed_is_said_after_writing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "set.safetensors"
    with pytest.raises(SystemExit) as end:
        exit_with(lambda: rapid_inr.main(
            ["encode", *QUICK, "--limit", "2", "--target", "80", "--out", str(path)]
        ))  # fmt: skip
    assert end.value.code == 1
    assert "2 of 2 images do not reach 80 dB: 0, 1" in capsys.readouterr().err
    assert len(open_inr(path)) == 2


def test_a_step_decodes_its_own_images(place: Path, tmp_path: Path) -> None:
    command = ["train", "--batch", "4", "--epochs", "3", "--quiet", "--out", str(tmp_path / "run")]
    chosen = rapid_inr.make_parser().parse_args([*command, "--set", str(place)])
    chosen.size, chosen.crop, chosen.stem, chosen.learning_rate = 8, 7, "small", 0.05
    assert train(flat(place), chosen) == 0
    log = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [float(line.split('"loss": ')[1].split(",")[0]) for line in log if "train" in line]
    assert len(losses) == 3 * 3
    assert losses[0] == pytest.approx(np.log(10), rel=1e-4)
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


def test_orders_have_a_cursor_and_shares() -> None:
    alone = Orders(10, 4, seed=1)
    first = [batch.indices.tolist() for batch in alone]
    assert [len(one) for one in first] == [4, 4]  # two do not fill a batch
    assert alone.state() == {"epoch": 1, "position": 0, "images": 10}
    second = next(iter(alone)).indices.tolist()
    assert second != first[0]
    alone.set_state({"epoch": 0, "position": 1, "images": 10})
    assert [batch.indices.tolist() for batch in alone] == first[1:]
    shares = [next(iter(Orders(10, 4, 1, rank, 3))) for rank in range(3)]
    assert np.concatenate([one.indices for one in shares]).tolist() == first[0]
    assert [one.row for one in shares] == [0, 2, 3]
    with pytest.raises(DataError, match="no such place among 2 parts"):
        alone.set_state({"epoch": 0, "position": 2, "images": 10})
    with pytest.raises(DataError, match="a set of 3 images does not fill a batch of 4"):
        Orders(3, 4, 1)


def test_photographs_are_cut_and_split() -> None:
    whole = tiles(64)
    assert len(whole.images) == 2 * 6 * 10
    assert whole.labels[:4].tolist() == [0, 1, 0, 1]
    data = open_grey("photos", 64)
    assert (len(data.train), len(data.validation)) == (96, 24)
    images, _ = data.validation.read([0, 1])
    np.testing.assert_array_equal(images[0], whole.images[0])
    assert (data.train.mean_image == GREY).all()
    assert len(pictures("photos", 64).images) == 96
    with pytest.raises(DataError, match="there are no tiles of 500 pixels"):
        tiles(500)


def test_what_does_not_fit_is_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="does not exist"):
        rapid_inr.main(["train", "--set", str(tmp_path / "none"), "--quiet"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        rapid_inr.main(["encode", "--data", str(tmp_path / "empty"), "--quiet"])
    with pytest.raises(ArgumentError, match="is a folder"):
        rapid_inr.main(["encode", "--out", str(tmp_path), "--quiet"])
    with pytest.raises(DataError, match="image 0 is 9 x 9, in the set it is 8 x 8"):
        rapid_inr.main(["compare", "--size", "9", "--set", str(place)])
    with pytest.raises(DataError, match="has the classes 0, 1, 2, 3, 4; photos has china"):
        rapid_inr.main(
            ["train", "--data", "photos", "--set", str(place), "--out", str(tmp_path / "r")]
        )
    with pytest.raises(ArgumentError, match=r"crop must lie in 1 \.\. size"):
        rapid_inr.classifier(size=8, crop=9)
    with pytest.raises(ArgumentError, match=r"pad must lie in 0 \.\. 8"):
        rapid_inr.classifier(size=8, crop=8, pad=9)
    image = np.zeros((3, 2, 2), np.uint8)
    with pytest.raises(ArgumentError, match="must be pairs of one size"):
        plot_pairs([image], [image[:, :1]], [""], tmp_path / "x.png")


@pytest.mark.full
def test_the_resnet_trains_and_goes_on(place: Path, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    flags = ["--set", str(place), "--width", "1", "--batch", "4", "--quiet"]
    assert rapid_inr.main(["train", *flags, "--epochs", "1", "--out", run]) == 0
    assert rapid_inr.main(["train", "--resume", run, "--epochs", "2", "--quiet"]) == 0
    assert rapid_inr.main(["evaluate", "--checkpoint", run]) == 0
