"""`data prepare`, `data info`, `data check` as a shell calls them."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from symgraph.data import commands, open_dataset

Run = Callable[..., int]


@pytest.fixture
def run() -> Run:
    """Return a function that parses a command line and runs it."""

    def call(*arguments: object) -> int:
        parser = argparse.ArgumentParser("symgraph")
        commands.add_arguments(parser.add_subparsers())
        namespace = parser.parse_args(["data", *map(str, arguments)])
        code = namespace.func(namespace)
        assert isinstance(code, int)
        return code

    return call


def test_prepare_info_check(make_source, tmp_path: Path, run: Run, capsys) -> None:
    source, out = make_source(), tmp_path / "set"
    (source / "class0" / "zero.jpg").touch()
    (source / "class0" / "notes.txt").touch()
    options = ("--size", 6, "--seed", 3, "--validation", 0.25, "--jobs", 2, "--keep-aspect")
    assert run("prepare", source, out, *options) == 0
    output, progress = capsys.readouterr()
    counts = {name: split.count for name, split in open_dataset(out).index.splits.items()}
    assert sum(counts.values()) == 36
    assert f"train images       {counts['train']}\n" in output
    assert "class0/zero.jpg: is empty (zero bytes)" in output
    assert "class0/notes.txt" in output
    assert "prepare: 37 of 37 images" in progress
    index = open_dataset(out).index
    assert (index.image_size, index.seed, index.keep_aspect) == (6, 3, True)
    assert run("info", out) == 0
    output, _ = capsys.readouterr()
    for line in (
        "format      1",
        "images      uint8 3 x 6 x 6, aspect kept",
        "classes     3: class0, class1, class2",
        f"train       {counts['train']} images in 1 shards",
        f"validation  {counts['validation']} images in 1 shards",
    ):
        assert line in output
    assert run("check", out) == 0
    assert "every file is as it was written" in capsys.readouterr().out


def test_check_names_every_damaged_file(prepared: Path, run: Run, capsys) -> None:
    for name in ("train-00001.npy", "train-00002.npy"):
        data = bytearray((prepared / name).read_bytes())
        data[-1] ^= 1
        (prepared / name).write_bytes(data)
    assert run("check", prepared) == 2
    errors = capsys.readouterr().err
    assert "is damaged: 2 bad files" in errors
    assert "train-00001.npy is damaged" in errors
    assert "train-00002.npy is damaged" in errors


def test_errors_are_one_paragraph_and_code_2(make_source, tmp_path: Path, run: Run, capsys) -> None:
    source = make_source()
    for arguments, message in (
        (("prepare", tmp_path / "no", tmp_path / "set"), "no does not exist"),
        (("prepare", source, source / "set"), "cannot be written inside its source"),
        (("prepare", source, tmp_path / "set", "--size", 0), "size must be an integer in"),
        (("info", tmp_path / "no"), "There is no data set at"),
        (("check", source), "has no index.json"),
    ):
        assert run(*arguments) == 2
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors.startswith("symgraph data: ")
        assert message in errors
        assert "Traceback" not in errors
        assert "\n\n" not in errors


def test_existing_target_needs_overwrite(make_source, tmp_path: Path, run: Run, capsys) -> None:
    source, out = make_source(), tmp_path / "set"
    assert run("prepare", source, out, "--size", 4) == 0
    assert run("prepare", source, out, "--size", 5) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("prepare", source, out, "--size", 5, "--overwrite", "--shard-images", 10) == 0
    assert len(open_dataset(out).index.splits["train"].shards) == 4


def test_ctrl_c(make_source, tmp_path: Path, run: Run, capsys, monkeypatch, hidden) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 10:
            signal.raise_signal(signal.SIGINT)

    @contextmanager
    def progress(title: str, unit: str) -> Iterator[commands.Progress]:
        yield interrupt

    monkeypatch.setattr(commands, "_progress", progress)
    assert run("prepare", make_source(), tmp_path / "set") == 130
    assert capsys.readouterr().err == "symgraph data: interrupted; nothing was left behind.\n"
    assert not (tmp_path / "set").exists()
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("rich", [True, False])
def test_on_a_terminal(
    make_source, tmp_path: Path, run: Run, capsys, monkeypatch, rich: bool
) -> None:
    source = make_source()
    if not rich:
        for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run("prepare", source, tmp_path / "set") == 0
    output, progress = capsys.readouterr()
    assert "32" in output
    assert ("36/36" in progress) == rich
    assert ("prepare: 36 of 36 images" in progress) == (not rich)
    assert run("info", tmp_path / "set") == 0
    assert ("│" in capsys.readouterr().out) == rich


def test_a_command_is_needed(run: Run, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_escapes_in_names_do_not_reach_the_terminal(
    make_source, tmp_path: Path, run: Run, capsys
) -> None:
    source = make_source("source", (2, 2))
    (source / "class0").rename(source / "\x1b[2Jcat")
    (source / "class1" / "\x1b[2J.png").touch()
    assert run("prepare", source, tmp_path / "set") == 0
    assert run("info", tmp_path / "set") == 0
    output, errors = capsys.readouterr()
    assert "\x1b" not in output + errors
    assert "\\x1b[2Jcat" in output
