"""`python -m symgraph show` and `cost`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import symgraph as sg
import symgraph.__main__ as command_line

FILE = """
import symgraph as sg

x = sg.tensor("x", (sg.dim("B"), 3))
y = sg.exp(x).sum()
both = [y, y * 2]
net = sg.nn.Dense(3, 2)
step = sg.function([x], y * 1, name="step")
number = 3


def graph():
    return step


def needs(size):
    return y


def broken():
    return "a" + 1


class Holder:
    def graph(self):
        return y


held = Holder()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of the user's."""
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "model.py").write_text(
        FILE.replace("\ndef graph", "\ndef other") + "\nMODEL = held\n"
    )
    (tmp_path / "needy.py").write_text("import no_such_package\n")
    return tmp_path


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def shell(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """Run a command in that folder."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)

    def run(*arguments: str) -> Done:
        status = command_line.main(arguments)
        return Done(status, *capsys.readouterr())

    yield run
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_the_working_folder_is_where_modules_are_found(folder: Path) -> None:
    root = Path(__file__).parent.parent.parent
    code = "import sys; from symgraph.__main__ import main; sys.path.remove(''); main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "mine:y"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "exp(x)" in done.stdout


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mine", "step(x: float32[B, 3])"),
        ("mine:step", "step(x: float32[B, 3])"),
        ("mine:y", "graph(x: float32[B, 3])"),
        ("mine:both", "graph(x: float32[B, 3])"),
        ("mine:net", "graph(x: float32[B, 3])"),
        ("mine:Holder", None),
        ("mine:held", "graph(x: float32[B, 3])"),
        ("model", "graph(x: float32[B, 3])"),
    ],
)
def test_show_prints_what_a_name_stands_for(
    shell: Callable[..., Done], name: str, line: str | None
) -> None:
    done = shell("show", name)
    if line is None:
        assert done.returncode == 2
        return
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == line
    assert "return %" in done.stdout


def test_show_before_any_pass(shell: Callable[..., Done]) -> None:
    after, before = shell("show", "mine"), shell("show", "mine", "--before")
    assert "multiply" in before.stdout
    assert len(after.stdout) <= len(before.stdout)


def test_show_writes_files_and_formulas(folder: Path, shell: Callable[..., Done]) -> None:
    done = shell(
        "show", "mine", "--html", "page.html", "--size", "B=7", "--dot", "g.dot",
        "--graphml", "g.graphml",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["page.html", "g.dot", "g.graphml"]
    assert '"sizes":{"B":7}' in (folder / "page.html").read_text()
    assert (folder / "g.dot").read_text().startswith("digraph")
    assert "graphml" in (folder / "g.graphml").read_text()
    assert shell("show", "mine:net", "--latex").stdout == "y = x \\, W + b\n"


def test_cost_prints_formulas_and_numbers(shell: Callable[..., Done]) -> None:
    done = shell("cost", "mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert "FLOPs" in done.stdout
    assert "B = " not in done.stdout
    done = shell("cost", "mine:y", "--size", "B=1000000")
    assert "at B = 1000000:" in done.stdout
    assert "memory   24 MB at least" in done.stdout


def test_files_of_functions_are_shown_too(folder: Path, shell: Callable[..., Done]) -> None:
    x = sg.tensor("x", (sg.dim("B"), 3))
    sg.function([x], sg.exp(x).sum() * 1, name="step").save(folder / "net.sgz")
    assert "exp" in shell("show", "net.sgz").stdout
    assert len(shell("show", "--before", "net.sgz").stdout) > len(shell("show", "net.sgz").stdout)
    assert "B" in shell("cost", "net.sgz", "--size", "B=4").stdout
    assert "there is no file other.sgz" in shell("show", "other.sgz").stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["mine.py"], "write mine, not mine.py"),
        (["models/alexnet.py"], "write models.alexnet, not models/alexnet.py"),
        (["nothing"], "nothing: there is no such module."),
        (["mine.deeper"], "there is no such module|is not a package"),
        (["empty"], "empty: there is neither `graph` nor `MODEL` in"),
        (["mine:nothing"], "mine:nothing: there is no `nothing` in"),
        (["mine:number"], "mine:number: cannot show int"),
        (["mine:needs"], "mine:needs: cannot be called without arguments"),
        (["needy"], "needy: imports no_such_package, which is not installed."),
        (["mine", "--size", "B"], "--size B: must be a size and a number."),
        (["mine", "--size", "B=-1"], "--size B=-1: must be a size and a number."),
        (["mine", "--size", "B=3", "--size", "B=4"], "the size B is given twice"),
        (["mine", "--html", "no/page.html"], "draw: the folder no does not exist."),
        (["mine", "--html", "page.html", "--size", "C=3"], "no size `C`"),
    ],
)
def test_mistakes_are_one_text(shell: Callable[..., Done], arguments: list[str], text: str) -> None:
    done = shell("show", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert any(part in done.stderr for part in text.split("|")), done.stderr


def test_an_error_of_the_users_program_has_its_traceback(shell: Callable[..., Done]) -> None:
    with pytest.raises(TypeError, match="can only concatenate str"):
        shell("show", "mine:broken")


def test_sizes_are_read_before_anything_is_printed(shell: Callable[..., Done]) -> None:
    done = shell("cost", "mine:y", "--size", "C=3")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("command", ["show", "cost"])
def test_help_tells_the_protocol(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main([command, "--help"])
    assert "asked for `graph`, then for `MODEL`" in " ".join(capsys.readouterr().out.split())
