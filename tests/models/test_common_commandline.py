"""The command line that all models share: what it accepts, what it says, how a program ends."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import types
from typing import Any

import pytest

from models.common.commandline import (
    COMMANDS,
    ModelParser,
    build_parser,
    check_device,
    exit_with,
    positive_int,
)
from symgraph.errors import DeviceError, SymgraphError


@pytest.fixture
def parser() -> ModelParser:
    made = build_parser("tiny", "Tiny, a model.", "the end of the help")
    made.add_model_argument("--classes", type=positive_int, default=10, help="how many there are")
    made.train.set_defaults(epochs=90)
    return made


def test_defaults(parser: ModelParser) -> None:
    assert vars(parser.parse_args([])) == {
        "command": "train", "data": "digits", "classes": 10, "epochs": 90, "batch": 128,
        "learning_rate": 0.01, "seed": 0, "max_steps": None, "out": None, "resume": None,
        "checkpoint_every": 1000, "device": "cpu", "gpus": None, "quiet": False, "given": (),
        "workers": None, "device_map": None, "average": "grads", "average_every": 1,
        "transport": None, "loading": None, "engine": "local", "nodes": None,
        "interface": "127.0.0.1", "elastic": False, "patience": 600, "words": ["train"],
    }  # fmt: skip
    assert vars(parser.parse_args(["evaluate"])) == {
        "command": "evaluate", "checkpoint": "latest", "batch": 128, "data": "digits",
        "device": "cpu", "quiet": False, "given": (), "words": ["evaluate"],
    }  # fmt: skip
    assert vars(parser.parse_args(["predict", "a.jpg", "b.jpg"])) == {
        "command": "predict", "checkpoint": "latest", "batch": 128, "images": ["a.jpg", "b.jpg"],
        "top": 5, "device": "cpu", "quiet": False, "words": ["predict", "a.jpg", "b.jpg"],
    }  # fmt: skip


def test_train_unless_another_command_is_named(
    parser: ModelParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--epochs", "3", "--quiet"]
    assert parser.parse_args(flags) == parser.parse_args(["train", *flags])
    monkeypatch.setattr(sys, "argv", ["tiny.py", "--seed", "4"])
    assert (parser.parse_args().command, parser.parse_args().seed) == ("train", 4)


def test_what_the_user_chose_is_noted(parser: ModelParser) -> None:
    flags = ["--batch", "128", "--data", "x", "--max-steps", "2", "--classes", "10"]
    assert parser.parse_args(flags).given == ("batch", "data", "classes")
    assert parser.parse_args([]).given == ()  # and not the list of the call before


def test_resume_has_a_word_of_its_own(parser: ModelParser) -> None:
    assert parser.parse_args(["--resume"]).resume == "latest"
    assert parser.parse_args(["--resume", "runs/x"]).resume == "runs/x"
    assert parser.parse_args(["--resume", "--quiet"]).resume == "latest"


BAD = [
    (["--epochs", "0"], "--epochs: must be a whole number of at least 1, not '0'"),
    (["--epochs", "-1"], "--epochs: must be a whole number of at least 1, not '-1'"),
    (["--batch", "1.5"], "--batch: must be a whole number of at least 1, not '1.5'"),
    (["--batch", "9" * 5000], "--batch: must be a whole number of at least 1"),
    (["--max-steps", ""], "--max-steps: must be a whole number of at least 1, not ''"),
    (["--seed", "-1"], "--seed: must be a whole number of at least 0 and at most 92233720368"),
    (["--seed", str(2**63)], "--seed: must be a whole number of at least 0 and at most"),
    (["--learning-rate", "0"], "--learning-rate: must be a number above 0, not '0'"),
    (["--learning-rate", "nan"], "--learning-rate: must be a number above 0, not 'nan'"),
    (["--learning-rate", "inf"], "--learning-rate: must be a number above 0, not 'inf'"),
    (["--learning-rate", "fast"], "--learning-rate: must be a number above 0, not 'fast'"),
    (["--device", "tpu"], "--device: invalid choice: 'tpu'"),
    (["--checkpoint-every", "0"], "--checkpoint-every: must be a whole number"),
    (["--gpus", "0"], "--gpus: must be a whole number of at least 1, not '0'"),
    (["--workers", "-2"], "--workers: must be a whole number of at least 1, not '-2'"),
    (["--device-map", "0,x"], "--device-map: must be numbers of GPUs such as 0,1, not '0,x'"),
    (["--device-map", "-1"], "--device-map: must be numbers of GPUs such as 0,1, not '-1'"),
    (["--average", "all"], "--average: invalid choice: 'all'"),
    (["--average-every", "0"], "--average-every: must be a whole number of at least 1, not '0'"),
    (["--patience", "0"], "--patience: must be a whole number of at least 1, not '0'"),
    (["--epoch", "3"], "unrecognized arguments: --epoch 3"),
    (["--epochs"], "--epochs: expected one argument"),
    (["trane"], "invalid choice: 'trane'"),
    (["predict"], "the following arguments are required: IMAGE"),
    (["predict", "x.jpg", "--top", "0"], "--top: must be a whole number of at least 1"),
    (["evaluate", "--epochs", "3"], "unrecognized arguments: --epochs 3"),
    (["--classes", "x"], "--classes: must be a whole number of at least 1, not 'x'"),
    (["evaluate", "--classes", "10"], "unrecognized arguments: --classes 10"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD)
def test_bad_values_are_one_line(
    parser: ModelParser, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)
    assert caught.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert re.match(r"tiny\.py( \w+)?: error: ", errors)
    assert text in errors
    assert re.search(r"\(see tiny\.py( \w+)? --help\)\n\Z", errors)
    assert errors.count("\n") == 1


def shown(parser: ModelParser, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_help_shows_defaults_and_every_flag(
    parser: ModelParser, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(parser, capsys, "--help")
    assert text == shown(parser, capsys, "-h") == shown(parser, capsys, "train", "--help")
    for part in (
        "Tiny, a model.", "python models/tiny.py evaluate [flags]", "the end of the help",
        "python models/tiny.py --max-steps 3 --out /tmp/try\n      three steps",
    ):  # fmt: skip
        assert part in text
    words = " ".join(text.split())
    for part in (
        "--epochs N passes over the images (default: 90)",
        "--batch N images in one step (default: 128)",
        "--learning-rate X rate at the start (default: 0.01)",
        "order of images and dropout (default: 0)",
        "--classes CLASSES how many there are (default: 10)",
        "where to compute (default: cpu)",
        "(default: runs/tiny-<date>-<time>)",
        "--gpus N train on N GPUs, a process for each; --batch is that of all together.",
        "there is one at the end too (default: 1000)",
    ):
        assert part in words
    assert "None" not in text
    assert "default: False" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_help_of_the_other_commands(
    parser: ModelParser, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join(shown(parser, capsys, "predict", "--help").split())
    assert "classes shown for each picture (default: 5)" in text
    assert "the latest one in runs/tiny-* (default: latest)" in text
    assert "--gpus" not in text
    assert "(default: digits)" in " ".join(shown(parser, capsys, "evaluate", "-h").split())
    assert COMMANDS == ("train", "evaluate", "predict")


def test_cpu_is_always_there() -> None:
    check_device("cpu")


def fake_cupy(monkeypatch: pytest.MonkeyPatch, count: Any) -> None:
    """Put a CuPy in place whose `getDeviceCount` gives a number or raises."""

    class CUDARuntimeError(RuntimeError):
        pass

    def devices() -> int:
        if isinstance(count, str):
            raise CUDARuntimeError(count)
        return count

    runtime = types.SimpleNamespace(
        getDeviceCount=devices, CUDARuntimeError=CUDARuntimeError,
        runtimeGetVersion=lambda: 13000, driverGetVersion=lambda: 13000,
    )  # fmt: skip
    cupy = types.ModuleType("cupy")
    cupy.__dict__["cuda"] = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="--device cuda: CuPy is not installed") as caught:
        check_device("cuda")
    assert caught.value.fix.endswith("or run with --device cpu")
    fake_cupy(monkeypatch, 1)
    check_device("cuda")
    fake_cupy(monkeypatch, 0)
    with pytest.raises(DeviceError, match="the NVIDIA driver finds no GPU"):
        check_device("cuda")


def ended(error: BaseException | None, status: int = 0) -> int:
    def main() -> int:
        if error is not None:
            raise error
        return status

    with pytest.raises(SystemExit) as caught:
        exit_with(main)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_how_a_program_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert (ended(None), ended(None, 143)) == (0, 143)
    assert ended(SymgraphError("it failed.", details=["a : 1"], fix="do this")) == 1
    assert capsys.readouterr().err == "error: it failed.\n  a : 1\n  fix: do this\n"
    assert ended(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "stopped\n"

    def defect() -> int:
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        exit_with(defect)


def test_a_parsed_line_is_a_namespace(parser: ModelParser) -> None:
    known, rest = parser.parse_known_args(["--quiet", "--unknown"])
    assert isinstance(known, argparse.Namespace)
    assert rest == ["--unknown"]
