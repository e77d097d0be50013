"""JSON whose depth, keys and types are checked on the way out and on the way in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

import numpy as np

from symgraph.errors import ArgumentError, ArgumentTypeError

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

MAX_DEPTH = 32

# A string, closed or not: with `\\Z` an unclosed quote costs one scan and not one per quote.
_STRING = re.compile(r'"(?:[^"\\]|\\.?)*+(?:"|\Z)', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def encode_json(value: object, where: str) -> str:
    """`value` as one line of JSON, with NaN and infinities in Python's spelling.

    NumPy scalars become Python numbers, tuples become lists. `where` names the value in errors.

    Raises:
        ArgumentTypeError: something in it is no JSON, named by its path.
        ArgumentError: it is nested more than 32 deep, or a string is no valid Unicode.
    """
    return json.dumps(_plain(value, where, 0), ensure_ascii=False)


def decode_json(text: str, *, strict: bool) -> Json:
    """The value of a JSON text that nobody has checked yet; `strict` refuses NaN and infinities.

    Raises:
        ValueError: it is no JSON, too deep, or a key stands twice in one object.
    """
    _check_depth(text)
    decoded: Json = json.loads(
        text,
        object_pairs_hook=_unique_keys,
        parse_constant=_refuse_constant if strict else float,
    )
    return decoded


def _plain(value: object, where: str, depth: int) -> Json:
    if depth >= MAX_DEPTH and isinstance(value, list | tuple | Mapping):
        raise ArgumentError(f"{where} is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        _check_unicode(value, where)
        return value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _key(key, where): _plain(item, f"{where}[{key!r}]", depth + 1)
            for key, item in value.items()
        }
    raise ArgumentTypeError(
        f"{where} is a {type(value).__name__}, which JSON cannot hold.",
        fix="use None, bool, int, float, str, list or dict; put arrays among the tensors",
    )


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise ArgumentTypeError(f"{where} has the key {key!r}; the keys of JSON are strings.")
    _check_unicode(key, where)
    return key


def _check_unicode(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(f"{where} is no valid Unicode: {error.reason}.") from None


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
