"""A model in a checkpoint: weights, optimiser, random state, data cursor, what it must know.

`predict` and `evaluate` need nothing but the file, so that of a classifier also holds the names of
the classes and the mean image that was subtracted in training, that of a language model its
characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import symgraph as sg
from symgraph.errors import CheckpointError
from symgraph.graph.leaves import Shared
from symgraph.io import Checkpoint, check_matches, load_checkpoint, save_checkpoint

MEAN = "data.mean_image"
CARRIED = "carried."  # before the names of states that go on from batch to batch


@dataclass(frozen=True)
class Task:
    """What a model does, and what its checkpoints must hold for that.

    `settings` are flags of the command line that a resumed run takes from its checkpoint, and
    evaluation too; those of the model itself come on top.
    """

    name: str
    document: Mapping[str, type]
    tensors: tuple[str, ...]
    settings: Mapping[str, type]


SETTINGS: dict[str, type] = {
    "data": str, "batch": int, "learning_rate": float, "seed": int, "epochs": int,
    "average": str, "average_every": int,
}  # fmt: skip
# Of settings that came later: what a run did before it had them.
BEFORE: Mapping[str, Any] = {
    "strategy": "original", "compression": 2.0, "ranks": "", "average": "grads",
    "average_every": 1,
}  # fmt: skip
_KEYS: dict[str, type] = {
    "step": int, "settings": dict, "random_state": dict, "data_cursor": dict,
}  # fmt: skip
IMAGES = Task("image classifier", {"classes": list}, (MEAN,), SETTINGS)
TEXTS = Task("language model", {"characters": str, "digest": str}, (), SETTINGS)


def variables(
    net: sg.nn.Module,
    optimizer: sg.optim.Optimizer | None = None,
    more: Mapping[str, Shared] | None = None,
) -> dict[str, Shared]:
    """Name every shared variable that a checkpoint holds."""
    state = net.named_state()
    named = {f"model.{name}": variable for name, variable in state.items()}
    if optimizer is not None:
        named |= {f"optimizer.{name}": v for name, v in optimizer.state(state).items()}
    return named | dict(more or {})


def save(
    place: Path,
    task: Task,
    *,
    variables: Mapping[str, Shared],
    tensors: Mapping[str, np.ndarray[Any, Any]],
    meta: Mapping[str, Any],
) -> Path:
    """Write a checkpoint into a run's folder and give its path."""
    every = {**{name: v.value for name, v in variables.items()}, **tensors}
    stream = sg.random.default_stream().state()
    return save_checkpoint(place, every, {**meta, "task": task.name, "random_state": stream})


def load(path: Path, model: str, task: Task = IMAGES) -> Checkpoint:
    """Read a checkpoint of a model with a task, called `model`.

    Raises `CheckpointError` when it is damaged or holds something else.
    """
    found = load_checkpoint(path)
    if found.meta.get("task") != task.name or found.meta.get("model") != model:
        what = found.meta.get("model") or found.meta.get("task") or "something else"
        raise CheckpointError(
            f"{found.path} is not a checkpoint of {model}: it holds {what}.",
            fix=f"give a checkpoint that {model} wrote",
        )
    for key, kind in {**task.document, **_KEYS}.items():
        if not isinstance(found.meta.get(key), kind):
            raise CheckpointError(f"{found.path}: its document has no usable `{key}`.")
    for name in task.tensors:
        if name not in found.tensors:
            what = name.rsplit(".", 1)[-1].replace("_", " ")
            raise CheckpointError(f"{found.path}: it holds no {what}.")
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
    value = settings.get(name, BEFORE.get(name))
    if type(value) is not (kind or SETTINGS[name]):
        raise CheckpointError(f"{checkpoint.path}: its document has no usable setting `{name}`.")
    return value


def restore(
    checkpoint: Checkpoint,
    model: str,
    net: sg.nn.Module,
    optimizer: sg.optim.Optimizer | None = None,
    more: Mapping[str, Shared] | None = None,
) -> None:
    """Put a checkpoint's numbers into a network, and into its optimiser and random stream.

    Everything is checked before anything is written.
    """
    named = variables(net, optimizer, more)
    wanted = {name: (v.storage.array.shape, v.dtype) for name, v in named.items()}
    surplus = [MEAN] if optimizer is not None else [MEAN, "optimizer.", CARRIED]
    check_matches(checkpoint, wanted, what=model, ignore=surplus)
    if optimizer is not None:
        state: Any = checkpoint.meta["random_state"]
        sg.random.default_stream().set_state(state)
    for name, variable in named.items():
        variable.value = checkpoint.tensors[name]
