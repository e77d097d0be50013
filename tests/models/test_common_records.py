"""Metrics, pictures and run folders: what a run leaves behind, and how it is found again."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common.metrics import MetricsLog, read_metrics
from models.common.pictures import check_pictures, plot_curves, plot_filters
from models.common.runs import LATEST, find_checkpoint, new_run_folder
from symgraph.errors import (
    ArgumentError,
    CheckpointMissingError,
    DataError,
    DataMissingError,
    DeviceError,
)
from symgraph.io import save_checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def write(path: Path, steps: range, **options: Any) -> None:
    with MetricsLog(path, **options) as log:
        for step in steps:
            log.write("train", step=step, loss=1 / step)
            if step % 2 == 0:
                log.write("validation", step=step, accuracy=step / 10)


def test_metrics_are_lines_of_json(path: Path) -> None:
    with MetricsLog(path) as log:
        log.write("train", step=1, epoch=0, loss=2.5, name="grün", flag=True, nothing=None)
        # Whoever looks while the run goes on sees it at once.
        assert json.loads(path.read_text()) == {
            "kind": "train", "step": 1, "epoch": 0, "loss": 2.5, "name": "grün", "flag": True,
            "nothing": None,
        }  # fmt: skip
        log.write("train", step=np.int64(2), loss=np.float32(0.5), count=np.array(3))
    assert json.loads(path.read_text().splitlines()[1]) == {
        "kind": "train", "step": 2, "loss": 0.5, "count": 3,
    }  # fmt: skip


def test_metrics_that_are_no_number(path: Path) -> None:
    values = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": np.float32("nan")}
    with MetricsLog(path) as log:
        log.write("train", step=1, **values)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    line = json.loads(path.read_text(), parse_constant=refuse)
    assert [line[name] for name in "abcd"] == ["NaN", "Infinity", "-Infinity", "NaN"]
    (record,) = read_metrics(path).records
    for name, value in values.items():
        np.testing.assert_equal(record[name], float(value))
    wrong: Any = [1]
    with (
        MetricsLog(path, resume_step=1) as log,
        pytest.raises(ArgumentError, match=r"metric `loss` must be a number or a string, not \[1"),
    ):
        log.write("train", step=2, loss=wrong)
    assert len(read_metrics(path).records) == 1


def test_series(path: Path) -> None:
    write(path, range(1, 6))
    assert read_metrics(path).series("train", "loss") == (
        [1, 2, 3, 4, 5], [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5],
    )  # fmt: skip
    assert read_metrics(path).series("validation", "accuracy") == ([2, 4], [0.2, 0.4])
    assert read_metrics(path).series("train", "accuracy") == ([], [])


def test_a_new_run_needs_an_empty_file(path: Path) -> None:
    path.touch()
    write(path, range(1, 3))
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=r"metrics\.jsonl holds the metrics of another run"):
        MetricsLog(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("again", [(), ("validation",)])
def test_resuming_removes_what_will_be_written_again(path: Path, again: tuple[str, ...]) -> None:
    write(path, range(1, 8))
    MetricsLog(path, resume_step=4, again=again).close()
    kept = [(record["kind"], record["step"]) for record in read_metrics(path).records]
    assert kept == [
        ("train", 1), ("train", 2), ("validation", 2), ("train", 3), ("train", 4),
        *([] if again else [("validation", 4)]),
    ]  # fmt: skip


def test_a_resumed_run_writes_the_same_file(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "whole", range(1, 10))
    write(path, range(1, 8))
    with path.open("a") as file:
        file.write('{"kind": "train", "st')  # killed here
    write(path, range(4, 10), resume_step=3)
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_resuming_keeps_nan(path: Path) -> None:
    with MetricsLog(path) as log:
        log.write("train", step=1, loss=math.nan, rate=-math.inf)
    before = path.read_bytes()
    MetricsLog(path, resume_step=1).close()
    assert path.read_bytes() == before


def test_resuming_without_metrics_begins_them(path: Path) -> None:
    write(path, range(6, 8), resume_step=5)
    assert read_metrics(path).series("train", "loss")[0] == [6, 7]


def test_a_last_line_cut_short_is_told(path: Path) -> None:
    write(path, range(1, 4))
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    found = read_metrics(path)
    assert [record["step"] for record in found.records] == [1, 2, 2]
    assert found.cut == data.splitlines()[-1][:-4].decode()
    path.write_bytes(data + b"\xff\xc3")
    assert read_metrics(path).cut == "\ufffd\ufffd"
    path.write_bytes(data)
    assert read_metrics(path).cut == ""


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"kind": "train", "st', "line 2 is no JSON"),
        ("", "line 2 is no JSON"),
        ("\udcff", "line 2 is no JSON"),
        ("[" * 100_000, "line 2 is no JSON"),
        ("[]", "line 2 is no object with a `kind` and a whole `step`"),
        ('{"step": 1}', "line 2 is no object with a `kind`"),
        ('{"kind": "train"}', "line 2 is no object with a `kind`"),
        ('{"kind": "train", "step": 1.5}', "line 2 is no object with a `kind`"),
    ],
)
def test_damage_in_the_middle_is_not_passed_over(path: Path, line: str, text: str) -> None:
    write(path, range(1, 4))
    lines = path.read_bytes().split(b"\n")
    lines[1] = line.encode(errors="surrogateescape")
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    with pytest.raises(DataError, match=f"{re.escape(str(path))}, {text}"):
        read_metrics(path)
    with pytest.raises(DataError, match=text):
        MetricsLog(path, resume_step=3)
    assert path.read_bytes() == before


def test_missing_metrics(path: Path) -> None:
    with pytest.raises(DataMissingError, match=f"no metrics at {re.escape(str(path))}"):
        read_metrics(path)


def pixels(path: Path) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as picture:
        assert picture.format == "PNG"
        picture.load()
        return np.asarray(picture.convert("RGB"))


def curves(path: Path, **series: list[float]) -> np.ndarray:
    """Draw series called train_loss, validation_accuracy, ... and give the picture."""
    pytest.importorskip("matplotlib")
    with MetricsLog(path) as log:
        for name, values in series.items():
            kind, _, value = name.partition("_")
            for step, one in enumerate(values, start=1):
                log.write(kind, step=10 * step, **{value: one})
    target = path.with_name("curves.png")
    assert plot_curves(path, target, title="tiny") == target
    assert not list(path.parent.glob(".*"))
    return pixels(target)


CURVES: dict[str, dict[str, list[float]]] = {
    "one point": {"train_loss": [2.0]},
    "many": {"train_loss": [1 / n for n in range(1, 500)], "validation_loss": [0.5, 0.4]},
    "flat": {"train_loss": [1.0] * 100},
    "accuracy alone": {"validation_accuracy": [0.25, 1.0]},
    "diverged": {"train_loss": [1.0] * 60 + [3e38, math.inf, math.nan]},
    "only NaN": {"train_loss": [math.nan] * 3, "validation_accuracy": [math.nan]},
    "some NaN": {"train_loss": [2.0, math.nan, 1.0], "validation_accuracy": [math.nan, 0.5]},
}


@pytest.mark.parametrize("case", CURVES)
def test_curves(path: Path, case: str) -> None:
    found = curves(path, **CURVES[case])
    panels = len({name for name in CURVES[case] if name != "validation_loss"})
    assert found.shape == ({1: 408, 2: 732}[panels], 900, 3)
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 10


def test_curves_show_the_numbers(path: Path, tmp_path: Path) -> None:
    """Another number in the middle leaves the frame as it was, and changes some of the curve."""
    first = curves(path, train_loss=[3.0, 2.0, 1.0])
    (tmp_path / "other").mkdir()
    second = curves(tmp_path / "other" / "metrics.jsonl", train_loss=[3.0, 1.0, 1.0])
    differ = (first != second).any(axis=2).mean()
    assert 0.001 < differ < 0.1


def test_nothing_to_draw(path: Path) -> None:
    write(path, range(1, 2))
    path.write_text('{"kind": "other", "step": 1, "loss": 2.0}\n')
    with pytest.raises(ArgumentError, match="neither a training loss nor a validation accuracy"):
        plot_curves(path, path.with_name("curves.png"))
    assert not path.with_name("curves.png").exists()


@pytest.mark.parametrize(
    "shape", [(96, 3, 11, 11), (7, 1, 5, 5), (1, 3, 1, 1), (13, 3, 2, 9), (1, 1, 200, 1)]
)
def test_filters(tmp_path: Path, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    pytest.importorskip("matplotlib")
    weights = rng.standard_normal(shape)
    found = pixels(plot_filters(weights, tmp_path / "filters.png"))
    height, width, _ = found.shape
    assert width == 1008
    assert 100 < height < 4200
    assert not list(tmp_path.glob(".*"))


def test_filters_are_what_they_look_like(tmp_path: Path) -> None:
    """Zero is mid grey, the largest weight of a filter is full colour, whatever its size."""
    pytest.importorskip("matplotlib")
    weights = np.zeros((4, 3, 4, 4), np.float32)
    weights[0, 0], weights[1, 2], weights[2] = 1e-6, -50.0, 2.0
    found = pixels(plot_filters(weights, tmp_path / "filters.png"))
    colours = {tuple(colour) for colour in found.reshape(-1, 3).tolist()}
    grey = {colour for colour in colours if colour in ((127, 127, 127), (128, 128, 128))}
    assert grey
    level = next(iter(grey))[0]
    assert (255, level, level) in colours  # filter 0: red alone is positive
    assert (level, level, 0) in colours  # filter 1: blue alone is negative


def test_filters_that_cannot_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / "filters.png"
    for shape in ((3, 4), (8, 2, 3, 3), (0, 3, 5, 5), (8, 3, 0, 5)):
        with pytest.raises(ArgumentError, match=re.escape(f"(n, 1, h, w), not {shape}")):
            plot_filters(np.zeros(shape), target)
    for value in (np.nan, np.inf):
        with pytest.raises(ArgumentError, match="NaN or infinity; training diverged"):
            plot_filters(np.full((1, 3, 2, 2), value), target)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DeviceError, match="pictures need matplotlib") as caught:
        check_pictures()
    assert caught.value.fix == "pip install matplotlib"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of all runs, below the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path("runs")


def checkpoint(folder: Path, step: int, age: float) -> Path:
    """Save a checkpoint that was written `age` seconds ago."""
    path = save_checkpoint(folder, {"w": np.zeros(1)}, {"step": step})
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_new_folders_have_a_date_and_are_never_shared(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.fullmatch(r"runs/alexnet-\d{8}-\d{6}", str(new_run_folder("alexnet")))
    monkeypatch.setattr(time, "strftime", lambda form: "20250102-030405")
    names = [new_run_folder("tiny").name for _ in range(3)]
    assert names == [f"tiny-20250102-030405{end}" for end in ("", "-2", "-3")]
    assert all((runs / name).is_dir() for name in names)


def test_out(runs: Path) -> None:
    for _ in range(2):  # a folder without a run may be there already
        assert new_run_folder("tiny", "some/where") == Path("some/where")
    assert Path("some/where").is_dir()
    assert not runs.exists()
    path = checkpoint(Path("some/where"), 3, 0)
    with pytest.raises(ArgumentError, match=f"some/where holds a run already: {path.name}") as no:
        new_run_folder("tiny", "some/where")
    assert "--resume" in no.value.fix


def test_out_that_cannot_be_a_folder(runs: Path) -> None:
    Path("file").touch()
    with pytest.raises(ArgumentError, match="--out file exists and is no folder"):
        new_run_folder("tiny", "file")
    with pytest.raises(ArgumentError, match="file/run, cannot be made: Not a directory") as caught:
        new_run_folder("tiny", "file/run")
    assert "--out" in caught.value.fix
    Path("runs").touch()
    with pytest.raises(ArgumentError, match=r"runs/tiny-.* cannot be made: Not a directory"):
        new_run_folder("tiny")


def test_the_words_for_a_checkpoint(runs: Path) -> None:
    first = checkpoint(runs / "tiny-20250101-000000", 5, 100)
    last = checkpoint(runs / "tiny-20250101-000000", 9, 90)
    older = checkpoint(runs / "tiny-20250102-000000", 7, 500)
    checkpoint(runs / "other-20250103-000000", 1, 10)
    (runs / "tiny-20250104-000000").mkdir()
    (runs / "tiny-20250105").touch()
    # By the time of saving and not by the name: the run of yesterday was resumed today.
    assert find_checkpoint(LATEST, "tiny") == last
    assert find_checkpoint(LATEST, "tiny", str(older.parent)) == older
    assert find_checkpoint(str(first.parent), "tiny") == last
    assert find_checkpoint(str(first), "tiny") == first
    assert find_checkpoint(str(first), "tiny", str(older.parent)) == first


def test_no_such_checkpoint(runs: Path) -> None:
    with pytest.raises(CheckpointMissingError, match=r"no folder runs/tiny-\* in /.* holds a") as e:
        find_checkpoint(LATEST, "tiny")
    assert e.value.fix == "train first, or give the path of a checkpoint"
    Path("empty").mkdir()
    for word, out in ((LATEST, "empty"), ("empty", None), (LATEST, "nothing")):
        with pytest.raises(CheckpointMissingError, match="there is no checkpoint in"):
            find_checkpoint(word, "tiny", out)
    with pytest.raises(CheckpointMissingError, match=r"there is no checkpoint gone\.safetensors"):
        find_checkpoint("gone.safetensors", "tiny")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named() -> None:
    log = MetricsLog("/dev/full")
    with pytest.raises(DataError, match="metrics of step 3 cannot be written: No space left"):
        log.write("train", step=3, loss=1.0)
    log._file.close()
