"""The training loop: what a run leaves behind, and that a resumed run is the same run."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models.common import saved, trainer
from models.common.classifier import evaluate, measurement, predict
from symgraph.errors import (
    CheckpointError,
    DataError,
)
from symgraph.io import list_checkpoints, load_checkpoint
from tests.models.conftest import Server
from tests.models.runs import STEPS, assert_same_run, metrics, other, parse
from tests.models.tiny import CROP, MODEL

pytestmark = pytest.mark.usefixtures("no_pictures")

KILL, INTERRUPT, TERMINATE = int(signal.SIGKILL), int(signal.SIGINT), int(signal.SIGTERM)


def test_what_a_run_leaves_behind(reference: Path) -> None:
    assert sorted(path.name for path in reference.iterdir()) == [
        "checkpoint-0005-step-12.safetensors", "checkpoint-0006-step-15.safetensors",
        "checkpoint-0007-step-16.safetensors", "curves.png", "filters.png", "metrics.jsonl",
    ]  # fmt: skip
    for name in ("curves.png", "filters.png"):
        assert (reference / name).read_bytes().startswith(b"\x89PNG")


def test_metrics(reference: Path) -> None:
    lines = metrics(reference)
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train] == list(range(1, STEPS + 1))
    assert [line["epoch"] for line in train] == [step // 4 for step in range(STEPS)]
    assert train[0]["learning_rate"] == 0.05
    assert train[0]["loss"] == pytest.approx(np.log(3), rel=0.5)
    measured = [line for line in lines if line["kind"] == "validation"]
    assert [(line["step"], line["epoch"]) for line in measured] == [
        (4, 0),
        (8, 1),
        (12, 2),
        (16, 3),
    ]
    assert all(0 <= line["accuracy"] <= line["top5"] <= 1 for line in measured)
    assert all(line["top5"] == 1 for line in measured)  # there are three classes
    assert lines.index(measured[0]) == 4


def test_the_reference_changed_its_rate(reference: Path) -> None:
    """Or else resuming would say nothing about the state of schedules."""
    rates = {line["learning_rate"] for line in metrics(reference) if line["kind"] == "train"}
    assert len(rates) > 1


def test_what_a_checkpoint_holds(reference: Path, tiny_data: Path) -> None:
    found = load_checkpoint(reference)
    assert found.meta["settings"] == {
        "data": str(tiny_data), "batch": 8, "learning_rate": 0.05, "seed": 0, "epochs": 4,
        "average": "grads", "average_every": 1,
    }  # fmt: skip
    assert found.meta["classes"] == ["blue", "green", "red"]
    assert found.meta["data_cursor"]["epoch"] == 4
    assert found.meta["random_state"] == {"seed": 0, "step": 16, "offset": 0}
    assert found.tensors["optimizer.first.weight.velocity"].any()
    assert found.tensors["model.norm.mean"].any()
    assert found.tensors[saved.MEAN].shape == (3, 16, 16)


def test_two_runs_are_the_same_and_another_seed_is_another_run(
    server: Server, tiny_data: Path, reference: Path, tmp_path: Path
) -> None:
    assert server.run("--data", tiny_data, "--out", tmp_path / "a").code == 0
    assert_same_run(tmp_path / "a", reference)
    assert server.run("--data", tiny_data, "--out", tmp_path / "b", "--seed", 1).code == 0
    assert metrics(tmp_path / "b") != metrics(reference)


# an event, the counts at which each attempt dies in turn (the last one is repeated)
PLANS: dict[str, tuple[str, list[int]]] = {
    "between two steps": ("stepped", [1, 2, 4, 7, 3]),
    "before a step": ("step", [5, 4, 3]),
    "after a line of metrics": ("logged", [5, 1, 4, 3]),
    "in the first write": ("write", [1, 2, 1, 3]),
    "in later writes": ("write", [2, 2, 2, 2]),
    "before a rename": ("replace", [2, 2, 3]),
    "after a rename": ("replaced", [1, 3, 2]),
    "in validation": ("measure", [1, 1, 2, 1]),
}


@pytest.mark.parametrize("plan", PLANS)
def test_a_killed_run_goes_on_bit_by_bit(
    server: Server, tiny_data: Path, reference: Path, tmp_path: Path, plan: str
) -> None:
    event, counts = PLANS[plan]
    folder, resume, kills = tmp_path / "run", [], 0
    for count in [*counts, 1000]:
        done = server.run(
            "--data", tiny_data, "--out", folder, *resume, event=event, count=count, signal=KILL
        )
        if done.code == 0:
            break
        assert done.code == -KILL, done.text
        kills += 1
        # Before its first checkpoint a run has nothing to go on from, and nothing to lose.
        resume = ["--resume"] if list_checkpoints(folder) else []
    assert done.code == 0, done.text
    assert kills >= 3
    assert_same_run(folder, reference)


def test_kills_at_random_moments(
    server: Server, tiny_data: Path, reference: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    resume: list[str] = []
    for wait in rng.uniform(0.02, 0.25, 12):  # a whole run takes about a quarter of a second
        done = server.run(
            "--data", tiny_data, "--out", tmp_path, *resume, after=wait, signal=KILL
        )  # fmt: skip
        assert done.code in (0, -KILL), done.text
        resume = ["--resume"] if list_checkpoints(tmp_path) else []
    assert server.run("--data", tiny_data, "--out", tmp_path, *resume).code == 0
    assert_same_run(tmp_path, reference)


def test_killed_while_it_wrote_its_last_pictures(
    server: Server, tiny_data: Path, reference: Path, tmp_path: Path
) -> None:
    """The run that goes on has nothing to save, and tidies up all the same."""
    assert server.run("--data", tiny_data, "--out", tmp_path).code == 0
    (tmp_path / f".curves.png.{0:012x}.partial").write_bytes(b"half a picture")
    assert server.run("--data", tiny_data, "--out", tmp_path, "--resume").code == 0
    assert_same_run(tmp_path, reference)


@pytest.mark.parametrize(("number", "code"), [(INTERRUPT, 130), (TERMINATE, 143)])
def test_a_signal_ends_the_step_and_saves(
    server: Server, tiny_data: Path, reference: Path, tmp_path: Path, number: int, code: int
) -> None:
    done = server.run(
        "--data", tiny_data, "--out", tmp_path, event="step", count=7, signal=number
    )  # fmt: skip
    assert done.code == code
    assert "stopping after this step; once more to stop at once" in done.text
    assert f"stopped at step 7; go on with --resume {tmp_path}" in done.text
    assert load_checkpoint(tmp_path).meta["step"] == 7
    assert [line["step"] for line in metrics(tmp_path) if line["kind"] == "train"][-1] == 7
    assert server.run("--resume", tmp_path).code == 0
    assert_same_run(tmp_path, reference)


@pytest.mark.parametrize(("event", "count"), [("measure", 2), ("stepped", 8), ("stepped", 16)])
def test_ctrl_c_around_validation(
    server: Server, tiny_data: Path, reference: Path, tmp_path: Path, event: str, count: int
) -> None:
    """An epoch that ended is measured when the run goes on, and only once."""
    plan = {"event": event, "count": count, "signal": INTERRUPT}
    done = server.run("--data", tiny_data, "--out", tmp_path, **plan)
    assert done.code == 130, done.text
    assert server.run("--resume", tmp_path).code == 0
    assert_same_run(tmp_path, reference)


def test_ctrl_c_ends_a_long_validation(server: Server, tiny_data: Path, tmp_path: Path) -> None:
    plan = {"event": "measure", "count": 2, "signal": INTERRUPT}
    done = server.run("--data", tiny_data, "--out", tmp_path, "--batch", 2, **plan)
    assert done.code == 130
    assert {line["kind"] for line in metrics(tmp_path)} == {"train"}
    assert load_checkpoint(tmp_path).meta["unvalidated"] is True
    assert server.run("--resume", tmp_path, "--max-steps", 15).code == 0
    assert [line["kind"] for line in metrics(tmp_path)] == ["train"] * 15 + ["validation"]


def test_a_second_ctrl_c_stops_at_once(server: Server, tiny_data: Path, tmp_path: Path) -> None:
    plan = {"event": "logged", "count": 5, "signal": INTERRUPT, "times": 2}
    done = server.run("--data", tiny_data, "--out", tmp_path, **plan)
    assert done.code == 130
    assert done.text.splitlines()[-1] == "stopped"
    assert load_checkpoint(tmp_path).meta["step"] == 3  # the last one before


def test_max_steps_and_then_the_rest(
    server: Server, tiny_data: Path, reference: Path, tmp_path: Path
) -> None:
    assert server.run("--data", tiny_data, "--out", tmp_path, "--max-steps", 6).code == 0
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 4, 5, 6, 6]
    assert lines[-1]["kind"] == "validation"
    assert server.run("--resume", tmp_path).code == 0
    assert load_checkpoint(tmp_path).tensors.keys() == load_checkpoint(reference).tensors.keys()
    again = [line for line in metrics(tmp_path) if line != lines[-1]]
    assert again == metrics(reference)  # apart from the measurement at the end of the first part
    a, b = load_checkpoint(tmp_path), load_checkpoint(reference)
    assert all((a.tensors[name] == b.tensors[name]).all() for name in b.tensors)


def test_a_finished_run_has_nothing_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in run.glob("checkpoint*")}
    assert trainer.train(MODEL, parse("--resume", run)) == 0
    assert "nothing to do at step 16 of 16: give more --epochs" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in run.glob("checkpoint*")} == before


def test_more_epochs_than_before(run: Path) -> None:
    before = metrics(run)
    assert trainer.train(MODEL, parse("--resume", run, "--epochs", 5)) == 0
    assert metrics(run)[: len(before)] == before
    assert metrics(run)[-1]["step"] == 20
    assert load_checkpoint(run).meta["settings"]["epochs"] == 5


def test_resume_from_an_older_checkpoint_takes_the_same_way(run: Path, reference: Path) -> None:
    older = list_checkpoints(run)[0]
    assert trainer.train(MODEL, parse("--resume", older)) == 0
    assert_same_run(run, reference)


def test_resume_finds_the_newest_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    run.rename(tmp_path / "runs" / "tiny-20200101-000000")
    monkeypatch.chdir(tmp_path)
    assert trainer.train(MODEL, parse("--resume", "--epochs", 5)) == 0


def logits(run: Path, images: np.ndarray) -> np.ndarray:
    """Compute the tiny network by hand from a checkpoint."""
    at = {
        n.removeprefix("model."): a.astype(float) for n, a in load_checkpoint(run).tensors.items()
    }
    hidden = images.reshape(len(images), -1) @ at["first.weight"] + at["first.bias"]
    hidden = (hidden - at["norm.mean"]) / np.sqrt(at["norm.var"] + 1e-5)
    hidden = np.maximum(hidden * at["norm.scale"] + at["norm.shift"], 0)
    return hidden @ at["last.weight"] + at["last.bias"]


def centres(data: Any, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = data.read(np.arange(len(data)))
    cut = slice((16 - CROP) // 2, (16 - CROP) // 2 + CROP)
    return (pixels - mean)[:, :, cut, cut], labels


@pytest.mark.parametrize("batch", [2, 4, 128])
def test_evaluate(
    run: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str], batch: int
) -> None:
    data = sg.data.open_dataset(tiny_data, split="validation")
    images, labels = centres(data, data.mean_image)
    found = logits(run, images)
    loss = -(found - np.logaddexp.reduce(found, axis=1)[:, None])[np.arange(6), labels].mean()
    top1 = (found.argmax(axis=1) == labels).mean()
    assert evaluate(MODEL, parse("evaluate", "--checkpoint", run, "--batch", batch)) == 0
    expected = f"validation accuracy {100 * top1:.1f} %  (top-5 100.0 %, loss {loss:.4f}, 6 images)"
    assert capsys.readouterr().out.strip() == expected
    assert metrics(run)[-1]["accuracy"] == pytest.approx(top1)


def test_top5_is_not_top1() -> None:
    logits_of_images = sg.nn.Sequential(lambda x: x.reshape(-1, 12)[:, :10])
    measure = measurement(logits_of_images, 2)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(50, 3, 2, 2)).astype(np.float32)
    labels = rng.integers(0, 10, 50).astype(np.int32)
    order = np.argsort(-images.reshape(50, 12)[:, :10], axis=1)
    found = measure(images, labels)
    assert found["top1"] == (order[:, 0] == labels).sum()
    assert found["top5"] == (order[:, :5] == labels[:, None]).any(axis=1).sum()
    assert found["top1"] < found["top5"] < 50


def test_evaluate_refuses_other_data(run: Path) -> None:
    with pytest.raises(DataError, match=r"was trained on 3 classes \(blue, green, red, ...\)"):
        evaluate(MODEL, parse("evaluate", "--checkpoint", run, "--data", "digits"))


def test_predict(run: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = sorted((tiny_data.parent / "source").glob("*/0.png"))
    assert predict(MODEL, parse("predict", *pictures, "--checkpoint", run, "--top", 2)) == 0
    lines = capsys.readouterr().out.splitlines()
    image = pytest.importorskip("PIL.Image")
    mean = load_checkpoint(run).tensors[saved.MEAN]
    for path, line in zip(pictures, lines, strict=True):
        pixels = np.asarray(image.open(path)).transpose(2, 0, 1).astype(float) - mean
        found = logits(run, pixels[None, :, 2:14, 2:14])[0]
        chances = np.exp(found) / np.exp(found).sum()
        best = np.argsort(-chances)[:2]
        names = ("blue", "green", "red")
        text = ", ".join(f"{names[i]} {100 * chances[i]:.1f} %" for i in best)
        assert line == f"{path}: {text}"


def test_predict_errors(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        predict(MODEL, parse("predict", tmp_path / "none.png", "--checkpoint", run))
    with pytest.raises(CheckpointError, match="is not a checkpoint of huge: it holds tiny"):
        predict(other(name="huge"), parse("predict", "x.png", "--checkpoint", run))


def test_evaluation_changes_nothing(run: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    evaluate(MODEL, parse("evaluate", "--checkpoint", run))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
