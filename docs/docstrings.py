"""Docstrings and signatures as Markdown."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any


def markdown(text: str | None) -> str:
    """Turn a docstring into Markdown: examples and indented parts as code, the rest as text."""
    clean = inspect.cleandoc(text or "")
    return "\n\n".join(_paragraph(each) for each in re.split(r"\n\s*\n", clean) if each.strip())


def _paragraph(paragraph: str) -> str:
    lines = paragraph.splitlines()
    if lines[0].startswith(">>>"):
        return f"```pycon\n{paragraph}\n```"
    if all(line.startswith("    ") for line in lines):
        return f"```text\n{textwrap.dedent(paragraph)}\n```"
    if lines[0].rstrip() in ("Raises:", "Returns:"):
        entries = textwrap.dedent("\n".join(lines[1:]))
        joined = re.sub(r"\n\s+", " ", entries).splitlines()
        return "\n".join([f"{lines[0]}\n", *(f"* {escaped(entry)}" for entry in joined)])
    return escaped(re.sub(r"::$", ":", paragraph))


def escaped(text: str) -> str:
    """Escape what Markdown would read as markup, outside of backquotes."""
    pieces = re.split(r"(`+[^`]+`+)", text)
    return "".join(
        re.sub(r"`+", "`", piece) if number % 2 else re.sub(r"([\\*_<>\[\]{}$#|~])", r"\\\1", piece)
        for number, piece in enumerate(pieces)
    )


def first_sentence(text: str | None) -> str:
    """Give the first sentence of a docstring."""
    flat = " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())
    found = re.match(r"(.+?[.:])(?: |$)", flat)
    return (found.group(1) if found else flat).rstrip(":")


class _Text(str):
    """An annotation or default that prints as it is."""

    __slots__ = ()
    __repr__ = str.__str__


def signature(function: Any, *, method: bool = False) -> str:
    """Give a signature without quotes around annotations, addresses in defaults, and `self`."""
    try:
        found = inspect.signature(function)
    except (ValueError, TypeError):  # some classes written in C have none
        return "(...)"
    parameters = [_readable(each) for each in found.parameters.values()]
    returned = found.return_annotation
    text = str(
        found.replace(
            parameters=parameters[1:] if method else parameters,
            return_annotation=_Text(returned) if isinstance(returned, str) else returned,
        )
    )
    return re.sub(r"\bsymgraph(?:\.\w+)*\.(\w+)", r"\1", text)


def _readable(parameter: inspect.Parameter) -> inspect.Parameter:
    if isinstance(parameter.annotation, str):
        parameter = parameter.replace(annotation=_Text(parameter.annotation))
    if " at 0x" in repr(parameter.default):
        parameter = parameter.replace(default=_Text("..."))
    return parameter
