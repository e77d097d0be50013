"""Layers exchanged for others: what every method that does so asks, does and says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.dims import Size, evaluate, free, less
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.graph.leaves import Constant, Shared
from symgraph.graph.node import Value
from symgraph.nn import Module

Numbers = npt.NDArray[np.float64]

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


# -- what graphs say of a layer --------------------------------------------------------------------


def names_of(value: Value) -> tuple[str, ...]:
    """Give the names under which a layer of a graph can be asked for, the best first."""
    modules = [origin.module for origin in value.origins if origin.module]
    return tuple(dict.fromkeys([*modules, value.inputs[1].label]))


def are_numbers(weight: Value) -> bool:
    """Tell whether a weight has numbers: it is a shared variable or a constant."""
    return isinstance(weight, Shared) or isinstance(weight.op, Constant)


def numbers_of(weight: Value) -> Numbers:
    """Give the numbers of such a weight."""
    if isinstance(weight, Shared):
        return np.asarray(weight.value, np.float64)
    assert isinstance(weight.op, Constant)
    return np.asarray(weight.op.array, np.float64)


# -- what is said of it ----------------------------------------------------------------------------


def change(before: Size, after: Size, parameters: tuple[int, int], error: float | None) -> str:
    """Say what an exchange changed: FLOPs, numbers, and how far the new ones are off."""
    old, new = parameters
    fit = "" if error is None else f", off by {100 * error:.1f} %"
    return f"{before} -> {after} FLOPs, {old:,} -> {new:,} parameters{fit}"


def variables(modules: Iterable[Module | None]) -> list[Shared]:
    """Give the shared variables of modules, of each once; None has none."""
    made = dict.fromkeys(one for one in modules if one is not None)
    return [variable for module in made for variable in module.parameters()]
