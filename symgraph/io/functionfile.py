"""A function in a file: what it computes, before any pass, and the numbers of its variables.

The file is a safetensors file, as a checkpoint is (`tensorfile.py`). The graph is a JSON text
(`graphcodec.py`), which lies as bytes among the tensors, so that one digest covers everything:

============== ===========================================================================
graph          the JSON text, uint8
shared.N       the numbers of variable N
constant.N     the numbers of constant N
============== ===========================================================================
"""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from symgraph._version import __version__
from symgraph.errors import CheckpointError, CheckpointMissingError
from symgraph.frozen import frozen
from symgraph.graph.graph import Graph
from symgraph.graph.op import Array
from symgraph.io.atomic import atomic_file, remove_stale_partials
from symgraph.io.attributes import decode_attribute, encode_attribute
from symgraph.io.boundedjson import Json, decode_json, encode_json
from symgraph.io.graphcodec import Decoder, Encoder
from symgraph.io.tensorfile import read_header, read_tensors, write_tensors

FORMAT = 3  # 2 without complex128, 1 without sizes that data decide either
KIND = "symgraph function"
GRAPH = "graph"  # the tensor that holds the JSON text


@frozen(eq=False)
class Saved:
    """What a file holds: the name of a function, its graph, and how its outputs are arranged."""

    name: str
    graph: Graph
    structure: Any


def write_function(path: str | os.PathLike[str], saved: Saved) -> Path:
    """Write a function; the file is there whole or not at all.

    Raises:
        ArgumentTypeError: an attribute in the graph, such as a Python function, fits into no file.
        CheckpointError: the file could not be written; what was there before is untouched.
    """
    target = Path(path)
    encoder = Encoder(saved.graph)
    document = {
        "name": saved.name,
        "structure": _written_structure(saved.structure),
        **encoder.document,
    }
    text = encode_json(document, "save: the graph").encode()
    tensors = {GRAPH: np.frombuffer(text, np.uint8), **encoder.tensors}
    versions = {
        "symgraph": __version__, "numpy": np.__version__, "python": platform.python_version(),
    }  # fmt: skip
    paired = any(one.dtype == "complex128" for one in encoder.tensors.values())
    number = FORMAT if paired else 2 if saved.graph.sizes else 1
    metadata: dict[str, object] = {"format": number, "kind": KIND, "versions": versions}
    try:
        remove_stale_partials(target.parent)
        with atomic_file(target) as file:
            described = {key: encode_json(one, key) for key, one in metadata.items()}
            write_tensors(file, tensors, described)
    except OSError as problem:
        raise CheckpointError(
            f"{target} could not be written: {problem.strerror}.",
            fix="make room, or save elsewhere",
        ) from problem
    return target


def read_function(path: str | os.PathLike[str]) -> Saved:
    """Read a function, and check every part of the file before it is used.

    Raises:
        CheckpointMissingError: there is no such file.
        CheckpointError: it is cut short, damaged, of another kind or from a newer version, or
            needs an operation that is not registered.
    """
    found = Path(path)
    try:
        if not stat.S_ISREG(found.stat().st_mode):  # a pipe would block, or never end
            raise CheckpointError(f"{found} is no regular file.")
        with found.open("rb") as file:
            header = read_header(file, found)
            _check_kind(header.metadata, found)
            tensors = read_tensors(file, header, found)
    except FileNotFoundError:
        raise CheckpointMissingError(
            f"there is no file {found}.", fix='write one with f.save("net.sgz")'
        ) from None
    except OSError as problem:
        raise CheckpointError(f"{found} cannot be read: {problem.strerror}.") from problem
    except CheckpointError as problem:
        message = problem.message.removeprefix("checkpoint ")  # it is none
        raise CheckpointError(message, details=problem.details, fix=problem.fix) from None
    document = _document(tensors, found)
    decoder = Decoder(document, tensors, found)
    name, structure = document.get("name"), document.get("structure")
    if not isinstance(name, str) or not name.isprintable() or len(name) > 200:
        _refuse(found, "it has no name")
    return Saved(name, decoder.graph, _read_structure(structure, decoder.graph, found))


def _refuse(path: Path, what: str) -> NoReturn:
    raise CheckpointError(f"{path} cannot be read: {what}.")


def _check_kind(metadata: Mapping[str, str], path: Path) -> None:
    if metadata.get("kind") != encode_json(KIND, "kind"):
        raise CheckpointError(
            f"{path} is a safetensors file, but no function: its header does not say "
            f"kind = {KIND!r}.",
            fix="sg.io.load_checkpoint reads checkpoints",
        )
    number, versions = (_parsed(metadata, key, path) for key in ("format", "versions"))
    if type(number) is not int or number < 1:
        _refuse(path, f"its format is {number!r:.60}, not a number from 1 on")
    if number > FORMAT:
        writer = versions.get("symgraph") if isinstance(versions, dict) else None
        raise CheckpointError(
            f"{path} has format {number}; this version of symgraph reads up to format {FORMAT}.",
            fix=f"it was written by symgraph {writer!s:.40}: install that version or a newer one",
        )


def _parsed(metadata: Mapping[str, str], key: str, path: Path) -> Json:
    try:
        return decode_json(metadata.get(key, "null"), strict=True)
    except ValueError as problem:
        _refuse(path, f"its metadata {key!r} is damaged: {problem!s:.200}")


def _document(tensors: Mapping[str, Array], path: Path) -> dict[str, Json]:
    array = tensors.get(GRAPH)
    if array is None or array.dtype != np.uint8 or array.ndim != 1:
        _refuse(path, "it holds no graph")
    try:
        document = decode_json(array.tobytes().decode(), strict=True)
    except ValueError as problem:  # no UTF-8, no JSON, too deep, a key twice
        _refuse(path, f"its graph is damaged: {problem!s:.200}")
    if not isinstance(document, dict):
        _refuse(path, "its graph is no JSON object")
    return document


def _written_structure(structure: Any) -> Json:
    if isinstance(structure, dict):
        return {
            "keys": [encode_attribute(key, _nothing, "a key of the outputs") for key in structure]
        }
    return {"count": len(structure)} if isinstance(structure, list) else structure


def _nothing(kind: str, value: Any) -> Json:
    """Refuse keys that are no plain numbers and strings."""
    return encode_attribute(object(), _nothing, f"a key of the outputs, {value!r:.60},")


def _read_structure(data: Json, graph: Graph, path: Path) -> Any:
    """Give how outputs are arranged: None, "one", a list of as many, or their keys."""
    count = len(graph.outputs)
    if data is None and not count:
        return None
    if data == "one" and count == 1:
        return data
    if isinstance(data, dict) and set(data) == {"count"} and data["count"] == count:
        return [None] * count
    if isinstance(data, dict) and set(data) == {"keys"} and isinstance(data["keys"], list):

        def refused(what: str) -> CheckpointError:
            return CheckpointError(f"{path} cannot be read: its list of outputs {what}.")

        def found(kind: str, _: Json) -> NoReturn:
            raise refused(f"has a {kind}")

        keys = [decode_attribute(key, found, refused) for key in data["keys"]]
        if len(set(keys)) == len(keys) == count:
            return dict.fromkeys(keys)
    _refuse(path, f"its outputs are arranged in a way that is not known: {str(data)[:60]}")
