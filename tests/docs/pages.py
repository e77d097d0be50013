"""Runs what a page of the documentation shows, and compares what comes out.

Fenced blocks of a page and what happens to them, in order, in an empty folder:

    python                    runs; all of a page are one program, called <page>.py in messages
    text, right after it      what it prints; an error it raises stands last, as `Kind: message`
    {code-block} with         is written to the file that the caption names, in a copy of the
      :caption: PATH          repository
    console                   lines after `$ ` run in a shell; what they print stands below each
    anything else             is only looked at

`...` stands for any text. A block that prints something must be followed by that text.

python -m tests.docs.pages [PAGE...]            run pages and show what differs
python -m tests.docs.pages --write [PAGE...]    and put what came out into the page
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import json
import linecache
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
COPIED = ("symgraph", "models", "tests", "pyproject.toml", "setup.py", "README.md")
TIME_LIMIT = 240  # seconds for a page

_FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=fence)[ ]*$", re.M | re.S
)
_CAPTION = re.compile(r"\A:caption: (?P<path>\S+)\n\n?")


@dataclass
class Block:
    """One fenced block: its kind, its text, where its text stands in the page."""

    kind: str  # the first word of the fence
    body: str
    start: int
    end: int
    line: int
    path: str = ""  # of a file to be written


@dataclass
class Step:
    """Something to run, and the place in the page of what it is said to print."""

    block: Block
    code: str
    expected: str
    start: int
    end: int
    shown: bool  # whether the page has a place for output
    actual: str = ""

    @property
    def right(self) -> bool:
        """Whether what came out is what the page says."""
        return same(self.expected, self.actual)


def pages() -> list[Path]:
    """List all written pages: the README and docs/, without what is generated."""
    found = [
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if path.relative_to(ROOT / "docs").parts[0] not in ("_build", "reference")
    ]
    return [ROOT / "README.md", *found]


def blocks(text: str) -> list[Block]:
    """List the fenced blocks of a page."""
    found = []
    for match in _FENCE.finditer(text):
        words = match["info"].split()
        body, path = match["body"], ""
        caption = _CAPTION.match(body)
        if words[:1] == ["{code-block}"] and caption:
            body, path = body[caption.end() :], caption["path"]
        line = text.count("\n", 0, match.start()) + 1
        kind = words[0] if words else ""
        found.append(Block(kind, body, match.start("body"), match.end("body"), line, path))
    return found


def steps(text: str) -> list[Step]:
    """List what a page runs, in order; a file to be written is a step without output."""
    found: list[Step] = []
    every = blocks(text)
    for number, block in enumerate(every):
        if block.kind == "console":
            found.extend(_commands(block))
        elif block.path:
            found.append(Step(block, block.body, "", 0, 0, False))
        elif block.kind == "python":
            after = every[number + 1] if number + 1 < len(every) else None
            # the text belongs to this block where only blank space stands between the fences
            shown = after is not None and after.kind == "text" and _adjoin(text, block, after)
            if shown and after is not None:
                found.append(Step(block, block.body, after.body, after.start, after.end, True))
            else:
                found.append(Step(block, block.body, "", 0, 0, False))
    return found


def _adjoin(text: str, first: Block, second: Block) -> bool:
    between = text[first.end : second.start].split("\n")
    return all(not line.strip("`").strip() or line.startswith("```") for line in between)


def _commands(block: Block) -> list[Step]:
    """List the commands of a console block, each with the lines below it."""
    place = block.start
    found: list[Step] = []
    for line in block.body.splitlines(keepends=True):
        place += len(line)
        if line.startswith("$ "):
            found.append(Step(block, line[2:].rstrip("\n"), "", place, place, True))
        elif found:
            found[-1].expected += line
            found[-1].end = place
    return found


def same(expected: str, actual: str) -> bool:
    """Compare texts without blanks at ends of lines; `...` stands for anything."""
    wanted, got = (_stripped(each) for each in (expected, actual))
    return doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS)


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n")) + "\n"


class Program:
    """The python blocks of one page as one program, run block by block."""

    def __init__(self, file: Path) -> None:
        self.file, self.source = str(file), ""
        self.names: dict[str, Any] = {"__name__": "__main__", "__file__": self.file}

    def run(self, code: str) -> str:
        """Run one more block and give what it prints; its error stands last."""
        before = self.source.count("\n")
        self.source += code + "\n"
        lines = self.source.splitlines(keepends=True)
        linecache.cache[self.file] = (len(self.source), None, lines, self.file)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile("\n" * before + code, self.file, "exec"), self.names)
            except Exception as error:  # noqa: BLE001 - what a page shows may be an error
                print(f"{type(error).__name__}: {error}")
        return printed.getvalue()


def shell(command: str, folder: Path) -> str:
    """Run a command and give what it prints, errors included."""
    done = subprocess.run(
        command, shell=True, cwd=folder, text=True, timeout=TIME_LIMIT, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout + (f"(exit status {done.returncode})\n" if done.returncode else "")


def run_here(page: Path, folder: Path) -> list[str]:
    """Run a page in this process, in a folder; give what each step printed."""
    program = Program(folder / f"{page.stem.replace('-', '_').lower()}.py")
    found = []
    for step in steps(page.read_text(encoding="utf-8")):
        if step.block.path:
            target = folder / step.block.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(step.code, encoding="utf-8")
            found.append("")
        elif step.block.kind == "console":
            found.append(shell(step.code, folder))
        else:
            found.append(program.run(step.code))
    return found


def run(page: Path) -> list[Step]:
    """Run a page in a process and a folder of its own; give its steps with what they printed."""
    planned = steps(page.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder, results = Path(name) / "work", Path(name) / "results.json"
        folder.mkdir()
        copied = any(step.block.path for step in planned)
        if copied:
            _copy_repository(folder)
        done = subprocess.run(
            [sys.executable, __file__, "--run", str(page), str(results)],
            cwd=folder, env=_environment(folder if copied else ROOT), text=True,
            capture_output=True, timeout=TIME_LIMIT, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{page.name} could not be run:\n{done.stdout}{done.stderr}")
        for step, actual in zip(planned, json.loads(results.read_text()), strict=True):
            step.actual = actual.replace(str(folder), "/home/you")
    return planned


def _copy_repository(folder: Path) -> None:
    # with what is compiled, but not what is being written now, nor tests as pytest rewrites them
    skipped = shutil.ignore_patterns("*.pyc.*", "*-pytest-*", "docs")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=skipped)
        else:
            shutil.copy(source, folder / name)


def _environment(package: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYMGRAPH_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    changes = {"PYTHONPATH": str(package), "PATH": path, "COLUMNS": "100", "PYTHONWARNINGS": ""}
    return {**kept, **changes}


def differences(done: list[Step], page: Path) -> list[str]:
    """Say what came out otherwise than the page says."""
    return [
        f"{page.name}:{step.block.line}: {step.code.strip().splitlines()[-1]}\n"
        f"the page says:\n{step.expected or '(nothing)'}\nit gives:\n{step.actual or '(nothing)'}\n"
        for step in done
        if not step.right
    ]


def write(done: list[Step], page: Path) -> None:
    """Put what came out into the page, where it has a place for it; texts with `...` stay."""
    text = page.read_text(encoding="utf-8")
    for step in reversed(done):
        if not step.right and step.shown and doctest.ELLIPSIS_MARKER not in step.expected:
            text = text[: step.start] + _stripped(step.actual).lstrip("\n") + text[step.end :]
    page.write_text(text, encoding="utf-8")


def main() -> int:
    """Run pages, and write or show what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.run:
        page, results = chosen.pages
        results.write_text(json.dumps(run_here(page, Path.cwd())))
        return 0
    wrong = 0
    for page in [path.resolve() for path in chosen.pages] or pages():
        done = run(page)
        found = differences(done, page)
        wrong += len(found)
        print("\n".join([f"{page.name}: {len(done)} steps, {len(found)} differ", *found]))
        if chosen.write:
            write(done, page)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
