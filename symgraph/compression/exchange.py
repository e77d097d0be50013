"""Layers of a network exchanged for others, wherever modules hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

from symgraph.dims import Size, evaluate, free, less
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.nn import Module

NOMINAL = 256  # for a size without a number, where it depends on it which of two costs is less


def exchange(net: Module, those: Mapping[Module, Module]) -> None:
    """Put other modules in the place of some, in every attribute of every module of a network."""
    by_id = {id(old): new for old, new in those.items()}
    for _, module in net.named_modules():
        for attribute, held in module.__dict__.items():
            module.__dict__[attribute] = _exchanged(held, by_id)


def _exchanged(held: Any, by_id: Mapping[int, Module]) -> Any:
    """Give an attribute with modules exchanged, also inside lists, tuples and dicts.

    What holds none of them stays the object that it is.
    """
    if isinstance(held, Module):
        return by_id.get(id(held), held)
    if isinstance(held, list | tuple):
        parts = [_exchanged(one, by_id) for one in held]
        if all(new is old for new, old in zip(parts, held)):
            return held
        # a named tuple takes its fields one by one
        return held._make(parts) if hasattr(held, "_make") else type(held)(parts)
    if isinstance(held, dict):
        changed = {key: _exchanged(one, by_id) for key, one in held.items()}
        if all(changed[key] is one for key, one in held.items()):
            return held
        made = copy(held)  # of its own kind
        made.update(changed)
        return made
    return held


def require_module(caller: str, net: Any, instead: str) -> None:
    """Raise unless a network is a module, and one that holds its layers."""
    if not isinstance(net, Module):
        raise ArgumentTypeError(
            f"{caller}: takes a module, got {type(net).__name__}.", fix=f"for a graph, {instead}"
        )
    if not any(True for _ in net.children()):
        raise ArgumentError(
            f"{caller}: the network is one {type(net).__name__}, whose place nothing holds.",
            fix="wrap the layer: sg.nn.Sequential(layer)",
        )


def layer_names(caller: str, layers: Iterable[str] | None) -> tuple[str, ...] | None:
    """Give names of layers as a tuple; raises `ArgumentTypeError` for one text, not a list."""
    if isinstance(layers, str):
        raise ArgumentTypeError(
            f"{caller}: layers must be a list of names, got the text {layers!r:.60}.",
            fix=f"layers=[{layers!r:.60}]",
        )
    return None if layers is None else tuple(layers)


def require_known(caller: str, names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise `ArgumentError` for a name of a layer that is not there."""
    there = list(dict.fromkeys(known))
    for name in names:
        if name not in there:
            listed = ", ".join(there[:12]) + (", ..." if len(there) > 12 else "")
            raise ArgumentError(
                f"{caller}: no layer to {what} is called {name!r:.60}.",
                fix=f"one of {listed}" if there else "there is none at all",
            )


def is_less(left: Size, right: Size) -> bool:
    """Compare two costs, where it depends on the sizes at nominal ones."""
    found = less(left, right)
    if found is not None:
        return found
    env = dict.fromkeys(free(left) | free(right), NOMINAL)
    return evaluate(left, env) < evaluate(right, env)
