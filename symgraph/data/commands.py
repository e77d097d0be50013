"""`python -m symgraph data prepare | info | check`: the shell side of this folder."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from symgraph.data.index import FORMAT, Index, files, read_index
from symgraph.data.npy import shown
from symgraph.data.pack import Report, prepare
from symgraph.data.shards import check_dataset
from symgraph.errors import SymgraphError

Progress = Callable[[int, int], None]

_PLAIN_SECONDS = 10.0
_LISTED = 10
_INTERRUPTED = 130  # what a shell reports for a program stopped by Ctrl-C


def add_arguments(subparsers: Any) -> None:
    """Add the `data` command to what `ArgumentParser.add_subparsers()` returned.

    The chosen command's function is in the namespace's `func`; it returns the exit code.
    """
    parser = subparsers.add_parser(
        "data",
        help="prepare, show and check data sets of images",
        description="Turn folders of images into data sets, and look after these.",
    )
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    _add_prepare(commands)
    info = commands.add_parser("info", help="show what a data set holds")
    info.add_argument("path", metavar="PATH", help="a prepared data set")
    info.set_defaults(func=main, action=_info)
    check = commands.add_parser("check", help="check every file of a data set, checksums included")
    check.add_argument("path", metavar="PATH", help="a prepared data set")
    check.set_defaults(func=main, action=_check)


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser(
        "prepare",
        help="turn a folder of images into a data set",
        description="Turn SOURCE, a folder with one sub-folder of images for each class (or "
        "train/ and val/ folders of such), into the data set OUT. OUT appears whole or not at all.",
        epilog="example: python -m symgraph data prepare photos/ photos-256/ --size 256",
    )
    parser.add_argument("source", metavar="SOURCE", help="the folder of images")
    parser.add_argument("out", metavar="OUT", help="the data set to make")
    parser.add_argument("--size", type=int, default=256, help="side of the images (default 256)")
    parser.add_argument(
        "--shard-images", type=int, default=256, help="images in one file (default 256)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the order and split (default 1)")
    parser.add_argument(
        "--validation",
        type=float,
        metavar="FRACTION",
        help="part of each class to hold out where SOURCE has no val/ folder (default 0.1)",
    )
    parser.add_argument(
        "--keep-aspect",
        action="store_true",
        help="resize the short side and cut out the centre, instead of resizing both sides",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the data set OUT")
    parser.add_argument("--jobs", type=int, help="threads that decode (default: all processors)")
    parser.set_defaults(func=main, action=_prepare)


def main(namespace: argparse.Namespace) -> int:
    """Run the command chosen in the namespace; return 0, 2 for an error, 130 after Ctrl-C."""
    try:
        code: int = namespace.action(namespace)
    except SymgraphError as error:
        print(f"symgraph data: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("symgraph data: interrupted; nothing was left behind.", file=sys.stderr)
        return _INTERRUPTED
    return code


@contextmanager
def _progress(title: str, unit: str) -> Iterator[Progress]:
    """Yield a callback (done, total) that shows a bar to a person, else lines, on stderr."""
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar
        except ImportError:
            yield _plain_progress(title, unit)
            return
        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
        with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    yield _plain_progress(title, unit)


def _plain_progress(title: str, unit: str) -> Progress:
    last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= _PLAIN_SECONDS:
            last = time.monotonic()
            print(f"{title}: {done} of {total} {unit}", file=sys.stderr, flush=True)

    return show


def _table(title: str, rows: list[tuple[str, str]]) -> None:
    """Print rows of name and value; with rich where a person reads them."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            pass
        else:
            table = Table(title=Text(title), show_header=False, title_justify="left")
            for name, value in rows:
                table.add_row(Text(name), Text(value))
            Console().print(table)
            return
    width = max(len(name) for name, _ in rows)
    print(title)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def _prepare(namespace: argparse.Namespace) -> int:
    with _progress("prepare", "images") as progress:
        report = prepare(
            namespace.source,
            namespace.out,
            namespace.size,
            namespace.shard_images,
            namespace.seed,
            namespace.validation,
            keep_aspect=namespace.keep_aspect,
            overwrite=namespace.overwrite,
            jobs=namespace.jobs,
            progress=progress,
        )
    _print_report(report)
    return 0


def _print_report(report: Report) -> None:
    rows = [("classes", str(len(report.classes)))]
    rows += [(f"{split} images", f"{count:,}") for split, count in report.counts.items()]
    rows += _listed("skipped", [f"{item.file}: {item.reason}" for item in report.skipped])
    rows += _listed("not images", report.ignored)
    _table(shown(report.path), rows)


def _listed(title: str, items: list[str]) -> list[tuple[str, str]]:
    """Return rows that count the items and show the first of them; none for no items."""
    if not items:
        return []
    rows = [(title, f"{len(items):,}"), *(("", item) for item in items[:_LISTED])]
    if len(items) > _LISTED:
        rows.append(("", f"and {len(items) - _LISTED:,} more"))
    return rows


def _info(namespace: argparse.Namespace) -> int:
    path = Path(namespace.path).absolute()
    index = read_index(path)
    _table(shown(path), _info_rows(index))
    return 0


def _info_rows(index: Index) -> list[tuple[str, str]]:
    names = ", ".join(shown(name) for name in index.classes[:_LISTED])
    more = ", ..." if len(index.classes) > _LISTED else ""
    side = index.image_size
    total = sum(split.count for split in index.splits.values())
    rows = [
        ("format", str(FORMAT)),
        ("images", f"uint8 3 x {side} x {side}{', aspect kept' if index.keep_aspect else ''}"),
        ("classes", f"{len(index.classes)}: {names}{more}"),
    ]
    for name, split in index.splits.items():
        rows.append((name, f"{split.count:,} images in {len(split.shards):,} shards"))
    rows += [
        ("files", f"{len(files(index)):,}"),
        ("pixels", f"{total * 3 * side * side / 1e6:,.1f} MB"),
        ("seed", str(index.seed)),
    ]
    items = [f"{shown(item.file)}: {shown(item.reason)}" for item in index.skipped]
    return rows + _listed("skipped", items)


def _check(namespace: argparse.Namespace) -> int:
    with _progress("check", "files") as progress:
        problems = check_dataset(namespace.path, progress)
    path = shown(Path(namespace.path).absolute())
    if not problems:
        print(f"{path}: every file is as it was written.")
        return 0
    print(f"symgraph data: {path} is damaged: {len(problems)} bad files.", file=sys.stderr)
    for problem in problems:
        print(f"  {problem}".replace("\n", "\n  "), file=sys.stderr)
    return 2
