"""The documentation says what happens: examples run, tables are whole, links lead somewhere."""

from __future__ import annotations

import argparse
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import symgraph as sg
from models import flattened, lstm, resnet, vit
from models.common.commandline import ModelParser
from symgraph import errors
from symgraph.config import PREFIX, config
from symgraph.graph.registry import COMPOSITES, OPS, lookup
from tests.docs.pages import ROOT, Step, blocks, differences, pages, run, same, steps, write
from tests.ops.registry_cases import CASES, NAMES, NO_DIFFERENCES

# The examples may use any extra; they are documentation first.
for extra in ("PIL", "sklearn", "matplotlib", "sympy", "mpmath", "scipy"):
    pytest.importorskip(extra)

PAGES = {str(path.relative_to(ROOT)): path for path in pages()}


def text(name: str) -> str:
    """Read a page."""
    return PAGES[name].read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """Give the part of a page from one heading to the next of its level or above."""
    level = heading.split(" ")[0]
    start = page.index(f"\n{heading}\n") + 1
    after = re.compile(rf"^#{{1,{len(level)}}} ", re.M).search(page, start + len(heading))
    return page[start : after.start() if after else len(page)]


# -- the examples ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_the_examples_of(name: str) -> None:
    done = run(PAGES[name])
    found = differences(done, PAGES[name])
    assert not found, "\n".join(
        [*found, "if the new output is right: python -m tests.docs.pages --write " + name]
    )


def test_the_pages_have_examples() -> None:
    count = {name: len(steps(text(name))) for name in PAGES}
    assert count["README.md"] == 1
    for name in ("docs/tutorial.md", "docs/errors.md", "docs/how-to/add-an-op.md"):
        assert count[name] >= 8, name


# -- the runner itself -----------------------------------------------------------------------------


def planted(tmp_path: Path, body: str) -> tuple[list[Step], Path]:
    """Run a page made of one text, with ' for each backquote."""
    page = tmp_path / "planted-page.md"
    page.write_text(body.replace("'''", "```"), encoding="utf-8")
    return run(page), page


def test_what_is_printed_is_compared(tmp_path: Path) -> None:
    body = "'''python\nprint(1 + 1)\n'''\n\n'''text\n3\n'''\n"
    done, page = planted(tmp_path, body)
    assert [step.actual for step in done] == ["2\n"]
    assert "the page says:\n3\n\nit gives:\n2" in differences(done, page)[0]
    write(done, page)
    assert page.read_text() == body.replace("'''", "```").replace("3\n", "2\n")
    assert not differences(run(page), page)


@pytest.mark.parametrize(
    ("body", "actual"),
    [
        ("'''python\nprint(1)\n'''\n", "1\n"),  # nothing says that it prints
        ("'''python\nprint(1)\n'''\n\nBy the way:\n\n'''text\n1\n'''\n", "1\n"),  # not right after
        ("'''python\n1 / 0\n'''\n", "ZeroDivisionError: division by zero\n"),
        ("'''python\nx = 1\n'''\n\n'''text\nZeroDivisionError: ...\n'''\n", ""),
        ("'''console\n$ exit 3\n'''\n", "(exit status 3)\n"),
        ("'''console\n$ echo a; false\na\n'''\n", "a\n(exit status 1)\n"),
    ],
)
def test_what_is_not_said_is_an_error(tmp_path: Path, body: str, actual: str) -> None:
    done, page = planted(tmp_path, body)
    assert [step.actual for step in done] == [actual]
    assert len(differences(done, page)) == 1


def test_blocks_are_one_program_with_its_own_lines(tmp_path: Path) -> None:
    done, page = planted(
        tmp_path,
        "'''python\nimport symgraph as sg\nx = sg.vector('x')\n'''\n\n"
        "'''python\nprint(x.describe())\n'''\n\n"
        "'''text\nx : float32[x.shape[0]]   made at planted_page.py:2   x = sg.vector('x')\n'''\n",
    )
    assert not differences(done, page)


def test_files_are_written_into_a_copy_that_commands_see(tmp_path: Path) -> None:
    done, page = planted(
        tmp_path,
        "'''{code-block} python\n:caption: symgraph/planted.py\n\nVALUE = 7\n'''\n\n"
        "'''console\n$ python -c 'import symgraph.planted as p; print(p.VALUE)'\n7\n$ pwd\n"
        "/home/you\n'''\n\n'''python\nfrom symgraph.planted import VALUE\nprint(VALUE)\n'''\n\n"
        "'''text\n7\n'''\n",
    )
    assert not differences(done, page)
    assert not (ROOT / "symgraph" / "planted.py").exists()


def test_an_ellipsis_stands_for_anything_and_stays(tmp_path: Path) -> None:
    assert same("a ... c\n", "a b c\n")
    assert not same("... passed in ...s\n", "1 failed, 1 passed in 2.0s\n(exit status 1)\n")
    done, page = planted(tmp_path, "'''python\nprint('other')\n'''\n\n'''text\nth...s\n'''\n")
    before = page.read_text()
    assert differences(done, page)
    write(done, page)
    assert page.read_text() == before


# -- whole tables ----------------------------------------------------------------------------------


def test_every_error_has_its_example() -> None:
    page = text("docs/errors.md")
    kinds = [
        (name, kind)
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__ and kind is not errors.SymgraphError
    ]
    for name, kind in kinds:
        part = section(page, f"### {name}")
        assert f"{kind.__bases__[-1].__name__}" in part, f"{name}: its builtin is not named"
        shown = [block.body for block in blocks(part) if block.kind == "text"]
        assert shown, f"{name} has no example"
        assert all(body.split(": ")[0] == name for body in shown), f"{name}: another error"


def flags(parser: argparse.ArgumentParser) -> set[str]:
    return {
        option
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }


def users(parser: ModelParser) -> dict[str, list[str]]:
    """Name the commands that take each flag."""
    commands = {"train": parser.train, "evaluate": parser.evaluate, "predict": parser.predict}
    return {
        flag: [name for name, command in commands.items() if flag in flags(command)]
        for command in commands.values()
        for flag in flags(command)
    }


def test_every_flag_of_a_model_is_in_the_table() -> None:
    """Those that classifiers share, and each model's own."""
    pages = text("docs/training.md") + text("docs/parallel.md")
    rows = dict(re.findall(r"^\| `(--[a-z-]+)[^|]*(?:\\\|[^|]*)*\| ([a-z, ]+) \|", pages, re.M))
    real = users(resnet.make_parser()) | users(vit.make_parser())
    real |= users(flattened.make_parser())
    real = users(lstm.make_parser()) | real  # what it shares has fewer users there
    assert set(rows) == set(real)
    for flag, commands in real.items():
        said = ["train", "evaluate", "predict"] if rows[flag] == "all" else rows[flag].split(", ")
        assert said == commands, flag


def test_every_setting_is_in_the_table() -> None:
    page = text("docs/settings.md")
    names = re.findall(r"^\| `(\w+)` \|.*\| `(\w+)` \|$", page, re.M)
    assert [name for name, _ in names] == list(config.values())
    assert all(variable == PREFIX + name.upper() for name, variable in names)


# -- README ----------------------------------------------------------------------------------------


def test_the_readme_has_one_example_and_two_commands() -> None:
    every = blocks(text("README.md"))
    commands = [block.body.splitlines() for block in every if block.kind == "sh"]
    assert [len(lines) for lines in commands] == [2]
    assert "models/alexnet.py" in commands[0][0]
    assert "&& pytest -n auto" in commands[0][1]
    extras = set(re.findall(r"\[([\w,]+)\]", " ".join(commands[0])))
    assert extras <= set(re.findall(r'^    "(\w+)":', (ROOT / "setup.py").read_text(), re.M))


# -- links and the reference -----------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    prose = re.sub(r"^```.*?^```", "", text(name), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose):
        if "://" in target or "reference/" in target:  # the reference is generated
            continue
        assert (PAGES[name].parent / target).exists(), f"{name}: {target}"


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = re.findall(r"^([\w/-]+)$", text("docs/index.md"), re.M)
    for name in PAGES:
        if name not in ("README.md", "docs/index.md"):
            assert name.removeprefix("docs/").removesuffix(".md") in listed, name


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate the reference into a temporary folder."""
    out = tmp_path_factory.mktemp("docs") / "reference"
    subprocess.run(
        [sys.executable, "docs/generate.py", str(out)], cwd=ROOT, check=True, timeout=240
    )
    return out


def test_the_reference_has_every_public_name(reference: Path) -> None:
    for module, shown in (
        (sg, "sg"),
        (sg.nn, "sg.nn"),
        (sg.optim, "sg.optim"),
        (sg.data, "sg.data"),
        (sg.compression, "sg.compression"),
    ):
        page = (reference / f"{shown}.md").read_text(encoding="utf-8").replace("\\", "")
        for name in module.__all__:
            held = getattr(module, name)
            if not inspect.ismodule(held) and not name.startswith("__"):
                assert f"\n## {name}\n" in page or f"\n| `{name}(" in page, f"{shown}.{name}"


def test_the_table_of_what_is_tested_is_that_of_the_tests(reference: Path) -> None:
    page = (reference / "coverage.md").read_text(encoding="utf-8")
    cells = [row.strip("|").split(" | ") for row in page.splitlines() if row.startswith("| `")]
    rows = {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in cells}
    assert set(rows) == {name for name in NAMES if name in OPS}
    for name, row in rows.items():
        own = [case for case in CASES if case.name == name]
        count, bad = (int(part) for part in row[0].split(" + "))
        assert (count, bad) == (len(OPS[name].samples), len(OPS[name].bad)), name
        assert row[1] == row[0].split(" ")[0], f"{name} has samples without an oracle"
        assert (row[6] == "–") == (name in NO_DIFFERENCES or not any(c.checked for c in own)), name
    assert rows["tanh"][4:] == [
        "kernel", "kernel", *rows["tanh"][6:8], "transposed", "derived", "counted", "yes",
    ]  # fmt: skip
    assert rows["svd"][4:6] == ["NumPy on the host", "NumPy on the host"]
    assert rows["tap"][-1] == "–"
    assert rows["loop"][3:5] == ["–", "kernels of the graph inside"]


def test_the_table_of_operations_is_whole(reference: Path) -> None:
    page = (reference / "operations.md").read_text(encoding="utf-8")
    rows = {
        row.split("`")[1]: [cell.strip() for cell in row.strip("|").split(" | ")]
        for row in page.splitlines()
        if row.startswith("| `")
    }
    # those that other tests have registered in this process are not in the page
    own = {name for name, kind in OPS.items() if kind.__module__.startswith("symgraph.")}
    composites = {name for name in COMPOSITES if lookup(name).__module__.startswith("symgraph.")}
    assert set(rows) == own | composites
    assert rows["tanh"] == ["`tanh`", r"$\tanh x$", "floats", "yes", "kernel", "kernel"]
    assert rows["floor"][2:4] == ["floats", "0"]
    assert rows["conv"][4:] == ["oneDNN, kernel", "cuDNN, kernel"]
    assert rows["matmul"][4:] == ["oneDNN, BLAS, kernel", "cuBLASLt, kernel"]
    assert rows["argmax"][3].strip("| ") == "–"
