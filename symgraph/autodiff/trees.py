"""Tuples, lists and dicts of values: flat lists of leaves, and the same structure again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from symgraph.errors import ArgumentError


def is_tree(value: Any) -> bool:
    """Tell whether something is a structure of leaves; everything else is a leaf."""
    return isinstance(value, tuple | list | dict)


def leaves(tree: Any) -> list[Any]:
    """List the leaves of a structure; those of a dict in the order of its keys' insertion.

    >>> leaves({"a": 1, "b": (2, [3])})
    [1, 2, 3]
    """
    if not is_tree(tree):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree
    return [leaf for part in parts for leaf in leaves(part)]


def like(tree: Any, new: Sequence[Any]) -> Any:
    """Give the structure of a tree with other leaves.

    >>> like({"a": 1, "b": (2, [3])}, "xyz")
    {'a': 'x', 'b': ('y', ['z'])}
    """
    return _like(tree, iter(new))


def _like(tree: Any, rest: Iterator[Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _like(part, rest) for key, part in tree.items()}
    if is_tree(tree):
        parts = [_like(part, rest) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return next(rest)


def mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    """Change every leaf of a structure."""
    return like(tree, [change(leaf) for leaf in leaves(tree)])


def spread(name: str, what: str, prefix: Any, tree: Any) -> list[Any]:
    """Give one entry of `prefix` for each leaf of `tree`; an entry stands for all leaves below it.

    Raises `ArgumentError` where the structures do not fit.

    >>> spread("vmap", "in_axes", (0, None), ([1, 2], 3))
    [0, 0, None]
    """
    if not is_tree(prefix):
        return [prefix] * len(leaves(tree))
    fits = is_tree(tree) and isinstance(prefix, dict) == isinstance(tree, dict)
    if fits and isinstance(tree, dict):
        fits = list(prefix) == list(tree) or set(prefix) == set(tree)
    if not fits or len(prefix) != len(tree):
        raise ArgumentError(
            f"{name}: {what} must have one entry for each part, got {prefix!r:.60} for "
            f"{_outline(tree)}.",
            fix=f"{what}=0, None, or a structure of these as the values have",
        )
    keys = tree if isinstance(tree, dict) else range(len(tree))
    return [one for key in keys for one in spread(name, what, prefix[key], tree[key])]


def _outline(tree: Any) -> str:
    if not is_tree(tree):
        return "one value"
    kind = type(tree).__name__
    return f"a {kind} of {len(tree)} part{'s' * (len(tree) != 1)}"
