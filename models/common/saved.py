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

# What a resumed run takes from its checkpoint, and evaluation too: flags of the command line. Those
# of the model itself come on top: `Classifier.settings`.
SETTINGS: dict[str, type] = {
    "data": str, "batch": int, "learning_rate": float, "seed": int, "epochs": int,
    "average": str, "average_every": int,
}  # fmt: skip

_KEYS: dict[str, type] = {
    "classes": list, "step": int, "settings": dict, "random_state": dict, "data_cursor": dict,
}  # fmt: skip


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
    return save_checkpoint(place, tensors, {**meta, "task": KIND, "random_state": stream})


def load(path: Path, model: str) -> Checkpoint:
    """Read a checkpoint of an image classifier called `model`.

    Raises `CheckpointError` when it is damaged or holds something else.
    """
    found = load_checkpoint(path)
    if found.meta.get("task") != KIND or found.meta.get("model") != model:
        what = found.meta.get("model") or found.meta.get("task") or "something else"
        raise CheckpointError(
            f"{found.path} is not a checkpoint of {model}: it holds {what}.",
            fix=f"give a checkpoint that {model} wrote",
        )
    for key, kind in _KEYS.items():
        if not isinstance(found.meta.get(key), kind):
            raise CheckpointError(f"{found.path}: its document has no usable `{key}`.")
    if MEAN not in found.tensors:
        raise CheckpointError(f"{found.path}: it holds no mean image.")
    return found


def class_names(checkpoint: Checkpoint) -> list[str]:
    """Give the names of the classes that a checkpoint was trained on, in order."""
    names: Any = checkpoint.meta["classes"]
    return [str(name) for name in names]


def setting(checkpoint: Checkpoint, name: str, kind: type | None = None) -> Any:
    """Give a setting of the run that wrote a checkpoint: one of `SETTINGS`, or of another `kind`.

    Raises `CheckpointError` when it is missing or of another kind.
    """
    settings: Any = checkpoint.meta["settings"]
    value = settings.get(name)
    if type(value) is not (kind or SETTINGS[name]):
        raise CheckpointError(f"{checkpoint.path}: its document has no usable setting `{name}`.")
    return value


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
    wanted = {name: (v.storage.array.shape, v.dtype) for name, v in named.items()}
    surplus = [MEAN] if optimizer is not None else [MEAN, "optimizer."]
    check_matches(checkpoint, wanted, what=model, ignore=surplus)
    if optimizer is not None:
        state: Any = checkpoint.meta["random_state"]
        sg.random.default_stream().set_state(state)
    for name, variable in named.items():
        variable.value = checkpoint.tensors[name]
