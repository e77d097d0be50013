"""Tuples, lists and dicts of arrays or values, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# (kind, keys, parts): "leaf" and "none" have no parts, a "dict" has keys, a "named" its class
Structure = tuple[str, Any, tuple[Any, ...]]
LEAF: Structure = ("leaf", None, ())
NOTHING: Structure = ("none", None, ())


def taken_apart(tree: Any, path: str) -> tuple[Structure, list[tuple[str, Any]]]:
    """Give the structure of a tree and its leaves, each with its path: `state["w"][0]`.

    Tuples, named ones too, lists and dicts are inner parts, None is a part without leaves, and
    everything else is a leaf.
    """
    found: list[tuple[str, Any]] = []
    return _apart(tree, path, found), found


def _apart(tree: Any, path: str, found: list[tuple[str, Any]]) -> Structure:
    if tree is None:
        return NOTHING
    if isinstance(tree, dict):
        parts = tuple(_apart(part, f"{path}[{key!r}]", found) for key, part in tree.items())
        return "dict", tuple(tree), parts
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        parts = tuple(
            _apart(part, f"{path}.{name}", found) for name, part in zip(tree._fields, tree)
        )
        return "named", type(tree), parts
    if isinstance(tree, tuple | list):
        parts = tuple(_apart(part, f"{path}[{n}]", found) for n, part in enumerate(tree))
        return "list" if isinstance(tree, list) else "tuple", None, parts
    found.append((path, tree))
    return LEAF


def put_together(structure: Structure, leaves: Iterator[Any]) -> Any:
    """Give the tree of a structure, with new leaves in the order of the old ones."""
    kind, keys, parts = structure
    if kind == "leaf":
        return next(leaves)
    if kind == "none":
        return None
    made = [put_together(part, leaves) for part in parts]
    if kind == "dict":
        return dict(zip(keys, made))
    if kind == "named":
        return keys(*made)
    return made if kind == "list" else tuple(made)
