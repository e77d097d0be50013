"""Attributes of operations as JSON, and back: exact, by type, with graphs and arrays by number.

=================== ==========================================================================
None, bool, str     themselves
int                 itself
float               ``{"float": hex}``: its eight bytes, so that nan, inf and -0.0 come back
tuple               a list
a size              ``{"size": n}``: a place in the table of sizes (``dims/codec.py``)
an array            ``{"tensor": name}``: among the tensors of the file
a graph inside      ``{"body": n}``
a shared variable   ``{"shared": n}``
=================== ==========================================================================

What is read is checked against the types that the operation declares for its attributes.
"""

from __future__ import annotations

import struct
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from symgraph.dims import Dim
from symgraph.errors import ArgumentTypeError, CheckpointError
from symgraph.graph.body import Body
from symgraph.graph.leaves import Shared
from symgraph.graph.op import Op
from symgraph.io.boundedjson import Json

Refused = Callable[[str], CheckpointError]


def float_bits(number: float) -> str:
    """Give a float as the hexadecimal digits of its bytes, the highest first."""
    return struct.pack(">d", number).hex()


def float_of(text: object) -> float | None:
    """Give the float of sixteen hexadecimal digits, or None."""
    if not isinstance(text, str) or len(text) != 16 or not set(text) <= set("0123456789abcdef"):
        return None
    number: float = struct.unpack(">d", bytes.fromhex(text))[0]
    return number


def encode_attribute(value: Any, refer: Callable[[str, Any], Json], where: str) -> Json:
    """Give an attribute as JSON; `refer` gives the number of a size, body, variable or tensor.

    Raises `ArgumentTypeError`, which names the attribute, for what no file can hold.
    """
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return typing.cast(Json, value)
    if isinstance(value, float):
        return {"float": float_bits(value)}
    if isinstance(value, tuple):
        return [encode_attribute(part, refer, where) for part in value]
    for kind, known in _REFERRED.items():
        if isinstance(value, known):
            return {kind: refer(kind, value)}
    raise ArgumentTypeError(
        f"save: {where} is {_named(value)}, which a file cannot hold.",
        fix="register an operation of its own for it (sg.numpy_op), and give it by name",
    )


def _named(value: Any) -> str:
    if callable(value):
        return f"the function `{getattr(value, '__qualname__', type(value).__name__)}`"
    return f"of type {type(value).__name__}"


_REFERRED: dict[str, type] = {"size": Dim, "body": Body, "shared": Shared, "tensor": np.ndarray}


def decode_attribute(data: Json, found: Callable[[str, Json], Any], refused: Refused) -> Any:
    """Give the attribute that was written; `found` gives what has a number or a name."""
    if data is None or isinstance(data, bool | str | int):
        return data
    if isinstance(data, list):
        return tuple(decode_attribute(part, found, refused) for part in data)
    if isinstance(data, dict) and len(data) == 1:
        kind, inside = next(iter(data.items()))
        if kind == "float" and (number := float_of(inside)) is not None:
            return number
        if kind in _REFERRED:
            return found(kind, inside)
    raise refused(f"has an attribute that cannot be read: {str(data)[:60]}")


def made(kind: type[Op], attributes: dict[str, Any], refused: Refused) -> Op:
    """Make an operation of attributes by name, if it has them all and they have its types."""
    declared = {field.name: field for field in fields(kind)}
    hints = _hints(kind) if declared else {}
    for name, value in attributes.items():
        if name not in declared:
            raise refused(f"has the attribute {name!r:.60}, which the operation does not know")
        if not fits(value, hints.get(name, Any)):
            raise refused(f"has the attribute {name} = {value!r:.60}, which is of a wrong type")
    missing = [
        name
        for name, field in declared.items()
        if name not in attributes and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise refused(f"lacks the attribute {missing[0]}")
    return kind(**attributes)


def _hints(kind: type[Op]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError:  # a type that its file imports for checkers only: what it is, nobody knows
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of an annotated type: those that attributes of operations have."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inside)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(inside) == 2 and inside[1] is Ellipsis:
            return all(fits(part, inside[0]) for part in value)
        return len(value) == len(inside) and all(map(fits, value, inside))
    if origin is typing.Literal:
        return value in inside
    if hint is float:
        return isinstance(value, float | int)  # a bool too: an array of bools is padded with one
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if hint is not Any and isinstance(hint, type) else True
