"""`draw`: a graph as one HTML file to click through, with its history and its memory.

The file needs no network and no server. Everything in it that comes from the user's program stands
in one block of JSON, in which no character can end it; the page shows it as text only.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from symgraph.debug.picture import picture_of
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.io.atomic import atomic_file

_VIEWER = Path(__file__).parent / "viewer"
_SCRIPTS = ("layout.js", "scene.js", "formula.js", "view.js", "panel.js", "main.js")


def draw(
    what: Any, path: str | os.PathLike[str], *, sizes: Mapping[Any, int] | None = None
) -> Path:
    """Write a function, graph, value, list of values or module as an HTML page; give its path.

    Click a box to read about the value: its type, its lines, its formula, what it costs. Modules
    fold. A function's page has a slider over its history and shows what each pass changed. Bytes
    and FLOPs are counted at `sizes`, as `{B: 128}` or `{"B": 128}`; sizes not given count as 32.
    Raises `ArgumentError` for a size that is not in the graph and for a path that cannot be
    written, and `ArgumentTypeError` for anything that is no graph.
    """
    page = page_of(what, sizes)
    return write_text("draw", path, page)


def page_of(what: Any, sizes: Mapping[Any, int] | None = None) -> str:
    """Give the text of the page."""
    if sizes is not None and not isinstance(sizes, Mapping):
        raise ArgumentTypeError(
            f"draw: sizes must be a mapping, got {type(sizes).__name__}.", fix="sizes={B: 128}"
        )
    picture = picture_of(what, sizes)
    parts = {
        "title": html.escape(f"{picture['title']} - symgraph"),
        "style": _read("style.css"),
        "script": "\n".join(_read(name) for name in _SCRIPTS),
        "data": harmless_json(picture),
    }
    page = _read("page.html")
    # one pass: a name in the data that looks like a placeholder stays what it is
    before, *rest = page.split("{{")
    return before + "".join(
        parts[name] + after for name, _, after in (part.partition("}}") for part in rest)
    )


def _read(name: str) -> str:
    return (_VIEWER / name).read_text(encoding="utf-8")


def harmless_json(data: Any) -> str:
    """Give JSON that can stand in a script element: it has no <, > or & and is plain ASCII.

    >>> harmless_json("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(data, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def write_text(asked: str, path: str | os.PathLike[str], text: str) -> Path:
    """Write a file whole or not at all; raises `ArgumentError` where it cannot be written."""
    try:
        target = Path(path)
    except TypeError:
        raise ArgumentTypeError(
            f"{asked}: the path must be a string or a Path, got {type(path).__name__}."
        ) from None
    if "\0" in str(target):
        raise ArgumentError(f"{asked}: a path has no null characters, got {str(path)!r:.80}.")
    try:
        if target.is_dir():
            raise ArgumentError(f"{asked}: {target} is a folder.", fix="add the name of a file")
        if not target.parent.is_dir():
            raise ArgumentError(
                f"{asked}: the folder {target.parent} does not exist.",
                fix=f"mkdir -p {target.parent}",
            )
        with _opened(target) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as problem:
        raise ArgumentError(
            f"{asked}: {target!s:.80} cannot be written: {problem.strerror or problem}.",
            fix="choose a folder that you may write to",
        ) from None
    return target


def _opened(target: Path) -> AbstractContextManager[BinaryIO]:
    """Open a file to write. A device or a pipe (/dev/stdout) must stay what it is, and a link, too:
    only a file is replaced.
    """
    if target.exists() and not target.is_file():
        return target.open("wb")
    return atomic_file(os.path.realpath(target))
