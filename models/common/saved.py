"""A classifier in a checkpoint: weights, optimiser, random state, data cursor, class names, mean.

`predict` and `evaluate` need nothing but the file, so it also holds the names of the classes and
the mean image that was subtracted in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import symgraph as sg
from symgraph.errors import CheckpointError
from symgraph.graph.leaves import Shared
from symgraph.io import Checkpoint, check_matches, load_checkpoint, save_checkpoint

KIND = "image classifier"
MEAN = "data.mean_image"


def variables(net: sg.nn.Module, optimizer: sg.optim.Optimizer | None = None) -> dict[str, Shared]:
    """Name every shared variable that a checkpoint holds."""
    state = net.named_state()
    named = {f"model.{name}": variable for name, variable in state.items()}
    if optimizer is not None:
        named |= {f"optimizer.{name}": v for name, v in optimizer.state(state).items()}
    return named


def save(
    place: Path,
    *,
    net: sg.nn.Module,
    optimizer: sg.optim.Optimizer,
    mean_image: np.ndarray[Any, Any],
    meta: Mapping[str, Any],
) -> Path:
    """Write a checkpoint into a run's folder and give its path."""
    tensors = {name: v.value for name, v in variables(net, optimizer).items()}
    tensors[MEAN] = np.asarray(mean_image, np.float32)
    stream = sg.random.default_stream().state()
    return save_checkpoint(place, tensors, {**meta, "task": KIND, "random": stream})


def load(path: Path, model: str) -> Checkpoint:
    """Read a checkpoint of an image classifier called `model`.

    Raises `CheckpointError` when it is damaged or holds something else.
    """
    found = load_checkpoint(path)
    if found.meta.get("task") != KIND or found.meta.get("model") != model:
        what = found.meta.get("model") or found.meta.get("task") or "something else"
        raise CheckpointError(
            f"{path} is not a checkpoint of {model}: it holds {what}.",
            fix=f"give a checkpoint that {model} wrote",
        )
    for key, kind in (("classes", list), ("step", int), ("random", dict), ("loader", dict)):
        if not isinstance(found.meta.get(key), kind):
            raise CheckpointError(f"{path}: its document has no usable `{key}`.")
    if MEAN not in found.tensors:
        raise CheckpointError(f"{path}: it holds no mean image.")
    return found


def restore(
    checkpoint: Checkpoint,
    model: str,
    net: sg.nn.Module,
    optimizer: sg.optim.Optimizer | None = None,
) -> None:
    """Put a checkpoint's numbers into a network, and into its optimiser and random stream.

    Everything is checked before anything is written.
    """
    named = variables(net, optimizer)
    wanted: dict[str, tuple[tuple[int, ...], str]] = {
        name: (v.storage.array.shape, v.dtype) for name, v in named.items()
    }
    if optimizer is None:
        wanted |= {n: s for n, s in checkpoint.signature.items() if n.startswith("optimizer.")}
    wanted[MEAN] = checkpoint.signature[MEAN]
    check_matches(checkpoint, wanted, what=model)
    for name, variable in named.items():
        variable.value = checkpoint.tensors[name]
    if optimizer is not None:
        sg.random.default_stream().set_state(dict(checkpoint.meta["random"]))
