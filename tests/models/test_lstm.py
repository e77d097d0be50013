"""A model of characters: the text, its windows, the network, training, writing, the program."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models import lstm
from models.common import language, loop
from models.common.commandline import exit_with
from models.common.text import Text, Windows, encoded, open_text, python_text
from models.lstm import CharacterModel
from symgraph.errors import ArgumentError, CheckpointError, DataError, SymgraphError
from symgraph.graph.walk import topological
from symgraph.io import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parent.parent.parent
WORDS = "the quick brown fox jumps over the lazy dog, and then the dog sleeps. "


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return a text file of 2,800 characters."""
    path = tmp_path / "book.txt"
    path.write_text(WORDS * 40, encoding="utf-8")
    return path


@pytest.fixture
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "plot_curves", lambda *args, **options: None)


# -- the text --------------------------------------------------------------------------------------


def test_the_text_that_ships_with_python() -> None:
    text = open_text("python")
    assert len(text.whole) > 200_000
    assert "statement" in text.whole
    paragraphs = text.whole.split("\n\n")
    assert len(paragraphs) == len(set(paragraphs))
    assert python_text() is text.whole
    assert 60 < len(text.characters) < 400
    assert len(text.validation) == len(text.whole) // 10
    assert len(text.train) + len(text.validation) == len(text.whole)
    written = "".join(text.characters[number] for number in text.train[:1000])
    assert written == text.whole[:1000]


def test_texts_of_ones_own(tmp_path: Path, book: Path) -> None:
    text = open_text(str(book))
    assert text.characters == "".join(sorted(set(WORDS)))
    assert text.digest != Text(WORDS, text.characters).digest
    wrong = tmp_path / "wrong.txt"
    wrong.write_bytes(b"\xff\xfe" * 30)
    short = tmp_path / "short.txt"
    short.write_text("short")
    for name, message in ((wrong, "no text in UTF-8"), (short, "of 5 characters is too short"),
                          (tmp_path / "none", "there is no text file"), (tmp_path, "cannot be read")
                          ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            open_text(str(name))
    with pytest.raises(DataError, match="2 characters that the model does not know: 'A', 'é'"):
        encoded("Aé the", text.characters)


# -- windows ---------------------------------------------------------------------------------------


def test_windows_follow_each_other() -> None:
    numbers = np.arange(47, dtype=np.int32)
    windows = Windows(numbers, 2, 5)
    first, *others = seen = list(windows)
    assert len(windows) == len(seen) == 4
    assert (windows.epoch, windows.state()["position"]) == (1, 0)
    assert [one.first for one in seen] == [True, False, False, False]
    assert first.inputs.T.tolist() == [[0, 1, 2, 3, 4], [23, 24, 25, 26, 27]]
    assert all((one.targets == one.inputs + 1).all() for one in seen)
    for one, following in zip(seen, others):
        assert (following.inputs[0] == one.targets[-1]).all()


def test_windows_have_a_cursor() -> None:
    numbers = np.arange(60, dtype=np.int32)
    windows, other = Windows(numbers, 2, 5), Windows(numbers, 2, 5)
    taken = iter(windows)
    next(taken)
    next(taken)
    other.set_state(json.loads(json.dumps(windows.state())))
    before = other.state()
    assert other.ready()
    assert other.state() == before
    assert (next(taken).inputs == other.next_batch().inputs).all()
    assert other.state() == windows.state()
    for change in ({"position": 5}, {"epoch": -1}, {"windows": 9}, {"position": "1"}):
        with pytest.raises(DataError, match="no such place among 5 parts"):
            other.set_state({**windows.state(), **change})
    with pytest.raises(ArgumentError, match="no windows of 50 characters at 2 places"):
        Windows(numbers, 2, 50)


# -- the network -----------------------------------------------------------------------------------


def test_the_network() -> None:
    net = CharacterModel(30, 8, 2)
    x = sg.tensor("x", (sg.dim("T"), sg.dim("B")), "int32")
    assert net(x).shape == (*x.shape, 30)
    assert net.state_shapes(5) == [(2, 5, 8)] * 2
    assert net.count() == 30 * 64 + (64 + 8 + 2) * 32 + (8 + 8 + 2) * 32 + 8 * 30 + 30
    rule = lstm.optimizer(net, 0.1)
    assert rule.clip_norm == 1
    schedule = lstm.model(epochs=4).schedule(0.1)
    assert [schedule(epoch) for epoch in (0, 2, 4)] == pytest.approx([0.1, 0.05, 0.0])


def test_the_products_of_a_window_are_one() -> None:
    net = CharacterModel(30, 8)
    step = language.train_step(net, lstm.optimizer(net, 0.1), language.carried(net, 4))
    loops = [one for one in topological(step.graph.outputs) if one.op.name == "loop"]
    inside = [one for node in loops for one in topological(node.op.body.outputs)]
    products = [one for one in inside if one.op.name == "matmul"]
    assert products  # by the state
    weight = net.lstm.layers[0][0].input_weight
    outside = [one for one in topological(step.graph.outputs) if one.op.name == "matmul"]
    assert any(weight is operand for one in outside for operand in one.inputs)
    assert all(tuple(one.inputs[1].shape) != (64, 32) for one in products)


def test_states_go_on_and_validation_leaves_them(rng: np.random.Generator) -> None:
    sg.seed(1)
    net = CharacterModel(9, 8, dropout=0.0)
    numbers = rng.integers(0, 9, 400).astype(np.int32)
    states = language.carried(net, 2)
    measure = language.measurement(net, states)
    whole, halves = Windows(numbers, 2, 100), Windows(numbers, 2, 50)
    (window,) = whole
    loss = float(measure(window.inputs, window.targets)["loss"])
    after = [one.value for one in states]
    assert all(one.any() for one in after)
    language.forget(states)
    taken = iter(halves)
    parts = [measure(one.inputs, one.targets) for one in (next(taken), next(taken))]
    assert sum(float(one["loss"]) for one in parts) == pytest.approx(loss, rel=1e-5)
    for one, other in zip(states, after, strict=True):
        np.testing.assert_allclose(one.value, other, rtol=1e-4, atol=1e-6)


def test_the_score_is_that_of_the_definition(rng: np.random.Generator) -> None:
    net = CharacterModel(len(set(WORDS)), 8)
    text = Text(WORDS * 40, "".join(sorted(set(WORDS))))
    score = language.Examiner(net, text, 16, None).score()
    assert score is not None
    part = len(text.validation) // 8
    assert score.characters == (part - 1) // 16 * 16 * 8
    rows = text.validation[: 8 * part].reshape(8, part).T[: score.characters // 8 + 1]
    logits = net(sg.constant(np.ascontiguousarray(rows[:-1]))).eval().astype(float)
    likely = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(likely, rows[1:, :, None], 2)
    assert score.loss == pytest.approx(-chosen.mean(), rel=1e-5)
    assert score.bits == pytest.approx(-chosen.mean() / np.log(2), rel=1e-5)
    assert score.perplexity == pytest.approx(np.exp(-chosen.mean()), rel=1e-5)
    assert score.top1 == (logits.argmax(-1) == rows[1:]).mean()


def test_the_sampler_draws_what_the_network_says() -> None:
    sg.seed(1)
    net = CharacterModel(3, 4)
    net.head.weight.value = np.zeros((4, 3), np.float32)
    chances = np.array([0.2, 0.7, 0.1])
    net.head.bias.value = np.log(chances).astype(np.float32)

    write, again = (language.sampler(net, 3, language.carried(net, 1), 5) for _ in range(2))

    def drawn(count: int, temperature: float, function: sg.Function) -> list[int]:
        last = np.zeros((1, 1), np.int32)
        one = np.float32(temperature)
        return [int((last := function(last, one))[0, 0]) for _ in range(count)]

    for temperature in (1.0, 0.5):
        expected = chances ** (1 / temperature) / (chances ** (1 / temperature)).sum()
        seen = drawn(400, temperature, write)
        found = np.bincount(seen, minlength=3) / 400
        np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(400))
        if temperature == 1:
            assert drawn(50, temperature, again) == seen[:50]


# -- the program -----------------------------------------------------------------------------------


def call(*arguments: Any) -> int:
    return lstm.main([str(one) for one in arguments])


def lines(folder: Path) -> list[dict[str, Any]]:
    """Read the metrics without what depends on the clock."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in one.items() if "second" not in k} for one in found]


TINY = ("--hidden", 16, "--steps", 20, "--batch", 4, "--epochs", 2, "--learning-rate", 0.02,
        "--quiet")  # fmt: skip


@pytest.mark.usefixtures("_no_curves")
def test_train_resume_evaluate_predict(
    tmp_path: Path, book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--data", book, *TINY)
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert call(*flags, "--out", whole) == 0
    assert call(*flags, "--out", part, "--max-steps", 13) == 0  # states are on their way
    assert call("--resume", part, "--quiet") == 0
    assert lines(part)[:13] == lines(whole)[:13]
    found, expected = load_checkpoint(part), load_checkpoint(whole)
    assert found.meta == expected.meta
    assert found.tensors.keys() == expected.tensors.keys()
    for name, array in expected.tensors.items():
        assert array.tobytes() == found.tensors[name].tobytes(), name
    assert found.tensors["carried.0"].any()
    assert found.meta["characters"] == "".join(sorted(set(WORDS)))
    last = lines(whole)[-1]
    assert last["kind"] == "validation"
    assert last["loss"] < 0.8 * lines(whole)[0]["loss"]  # it learns
    assert last["bits_per_character"] == pytest.approx(last["loss"] / np.log(2))
    capsys.readouterr()
    assert call("evaluate", "--checkpoint", part) == 0
    assert f"validation {last['bits_per_character']:.3f} bits" in capsys.readouterr().out
    assert call("predict", "the fox", "--checkpoint", part, "--length", 12) == 0
    written = capsys.readouterr().out
    assert written.startswith("the fox")
    assert len(written) == 7 + 12 + 1
    with pytest.raises(DataError, match="does not know: 'Z'"):
        call("predict", "Z", "--checkpoint", part)
    with pytest.raises(CheckpointError, match="written with --hidden 16, not 9"):
        call("--resume", part, "--hidden", 9)
    book.write_text(WORDS * 41, encoding="utf-8")
    with pytest.raises(CheckpointError, match="trained on another text"):
        call("--resume", part, "--epochs", 3)
    for name, value, text in (("hidden", 1 << 40, "must lie in"), ("steps", "20", "no usable"),
                              ("layers", 3, "lstm")):  # fmt: skip
        settings = {**found.meta["settings"], name: value}
        path = save_checkpoint(tmp_path / name, found.tensors, {**found.meta, "settings": settings})
        with pytest.raises(SymgraphError, match=text):
            call("evaluate", "--checkpoint", path)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("--hidden 0", 2, "--hidden: must be a whole number of at least 1, not '0'"),
        ("--hidden 100000", 1, "lstm: hidden must lie in 1 .. 16384, got 100000"),
        ("--workers 3 --batch 2", 1, "--batch 2 is less than one for each of 3 processes"),
        ("--loading thread", 2, "unrecognized arguments: --loading thread"),
        ("--data nowhere.txt", 1, "there is no text file nowhere.txt"),
        ("--batch 400000", 1, "has no windows of 64 characters at 400000 places"),
        ("predict --temperature 0", 2, "--temperature: must be a number above 0, not '0'"),
        ("evaluate", 1, "no folder runs/lstm-*"),
    ],
)
def test_wrong_command_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: str, code: int, text: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        exit_with(lambda: lstm.main(arguments.split()))
    assert stopped.value.code == code
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lstm.main(["--help"])
    shown = capsys.readouterr().out
    assert 'python models/lstm.py predict "The statement"' in shown
    assert "--gpus" in shown
    assert "--loading" not in shown
    assert max(map(len, shown.splitlines())) <= 100


def run(folder: Path, *arguments: Any) -> Path:
    """Run the program, as several processes if it is told to; give its folder."""
    words = [sys.executable, ROOT / "models" / "lstm.py", *arguments]
    where = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(one) for one in words], cwd=folder, env=where, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "run"


@pytest.mark.usefixtures("_no_curves")
def test_two_workers_are_one(tmp_path: Path, book: Path) -> None:
    """Five places for two, dropout between two layers, gradients clipped: the same numbers."""
    flags = ("--data", book, *TINY, "--batch", 5, "--layers", 2, "--max-steps", 6)
    assert call(*flags, "--out", tmp_path / "one") == 0
    two = run(tmp_path, *flags, "--workers", 2, "--out", "run")
    for first, second in zip(lines(tmp_path / "one"), lines(two), strict=True):
        assert first.pop("kind") == second.pop("kind")
        assert first == pytest.approx(second, rel=1e-4)
    expected, found = load_checkpoint(tmp_path / "one"), load_checkpoint(two)
    assert found.meta == expected.meta
    assert found.tensors["carried.0"].shape == (2, 5, 16)
    for name, array in expected.tensors.items():
        np.testing.assert_allclose(found.tensors[name], array, rtol=2e-3, atol=2e-5, err_msg=name)


@pytest.mark.full
def test_workers_go_on_bit_by_bit(tmp_path: Path, book: Path) -> None:
    flags = ("--data", book, *TINY, "--workers", 2, "--out", "run")
    folders = [tmp_path / name for name in ("whole", "part")]
    for folder in folders:
        folder.mkdir()
    whole, part = run(folders[0], *flags), run(folders[1], *flags, "--max-steps", 13)
    alone = shutil.copytree(part, tmp_path / "alone" / "run").parent
    run(folders[1], "--resume", "run", "--workers", 2, "--quiet")
    expected, found = load_checkpoint(whole), load_checkpoint(part)
    assert lines(part)[:13] == lines(whole)[:13]
    assert found.meta == expected.meta
    for name, array in expected.tensors.items():
        assert array.tobytes() == found.tensors[name].tobytes(), name
    one = load_checkpoint(run(alone, "--resume", "run", "--quiet"))  # another number of workers
    for name, array in expected.tensors.items():
        np.testing.assert_allclose(one.tensors[name], array, rtol=2e-2, atol=1e-3, err_msg=name)


@pytest.mark.full
def test_stop_and_resume_the_program(tmp_path: Path) -> None:
    """Some steps, Ctrl-C, resume."""
    program = [sys.executable, str(ROOT / "models" / "lstm.py"), "--hidden", "16", "--out", "run"]
    process = subprocess.Popen(program, cwd=tmp_path)
    log = tmp_path / "run" / "metrics.jsonl"
    while not (log.exists() and log.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(200) == 130
    steps = log.read_bytes().count(b'"train"')
    words = ["--resume", "run", "--max-steps", str(steps + 1)]
    subprocess.run([*program[:2], *words], cwd=tmp_path, check=True, timeout=200)
    assert log.read_bytes().count(b'"train"') == steps + 1
