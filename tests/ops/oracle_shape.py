"""Oracles of shapes: NumPy's functions, and loops over the positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def cut(op: Any, x: Array) -> list[Array]:
    """Cut by NumPy's split, which takes the places between the pieces."""
    return np.split(x, np.cumsum(op.sizes)[:-1], axis=op.axis)


def padded(op: Any, x: Array) -> Array:
    return np.pad(x, op.widths, constant_values=op.value) if x.ndim else x


def moved(start: Any, end: Any) -> Callable[[Array], Array]:
    return lambda x: np.moveaxis(x, start, end)


ORACLES: dict[str, Callable[..., Any]] = {
    "specify_shape": lambda op, x: np.array(x.tolist(), x.dtype).reshape(x.shape),
    "barrier": lambda op, x, *after: np.array(x.tolist(), x.dtype).reshape(x.shape),
    "reshape": lambda op, x: np.array(x.reshape(-1).tolist(), x.dtype).reshape(op.shape),
    "permute_dims": lambda op, x: (
        np.einsum(x, list(range(x.ndim)), list(op.axes))
        if x.dtype != bool
        else np.transpose(x, op.axes)
    ),
    "broadcast_to": lambda op, x: np.broadcast_to(x, op.shape),
    "concat": lambda op, *xs: np.concatenate(xs, axis=op.axis),
    "split": cut,
    "pad": padded,
    "arange": lambda op: np.array(
        list(range(op.size)), np.dtype("float64" if op.dtype.startswith(("f", "b")) else op.dtype)
    ),
    "flatten:all": lambda x: x.reshape(-1),
    "flatten:tail": lambda x: x.reshape(len(x), -1),
    "flatten:head": lambda x: x.reshape(-1, x.shape[-1]),
    "flatten:scalar": lambda x: np.array([x.item()], x.dtype),
    "expand_dims:front": lambda x: x[None],
    "expand_dims:back": lambda x: x[..., None],
    "expand_dims:several": lambda x: x[None, :, None],
    "expand_dims:scalar": lambda x: np.array([x.item()], x.dtype),
    "squeeze:all": np.squeeze,
    "squeeze:one": lambda x: x[0],
    "squeeze:two": lambda x: x[0, ..., 0],
    "squeeze:guarded": lambda x: x[:, 0],
    "swapaxes:outer": lambda x: np.swapaxes(x, 0, 2),
    "swapaxes:inner": lambda x: np.swapaxes(x, -1, -2),
    "moveaxis:one": moved(0, -1),
    "moveaxis:two": moved((0, 3), (2, 0)),
    "stack:front": lambda x, y: np.stack([x, y]),
    "stack:back": lambda x, y: np.stack([x, y], -1),
    "stack:middle": lambda x, y: np.stack([x, y], 1),
    "stack:scalars": lambda x, y: np.stack([x, y, x]),
    "flip:all": np.flip,
    "flip:rows": lambda x: np.flip(x, 0),
    "flip:outer": lambda x: np.flip(x, (0, -1)),
    "flip:empty": lambda x: x,
    "full:number": lambda x: np.full((len(x), 2), 1.5),
    "full:value": lambda x: np.full((2, 3), x.item(), x.dtype),
    "full:small": lambda x: np.full(3, 7, np.int8),
    "full:bool": lambda x: np.array(True),
    "full:empty": lambda x: np.empty((0, 3), np.int64),
    "zeros:floats": lambda x: np.zeros((len(x), 3)),
    "zeros:integers": lambda x: np.zeros(17, np.int32),
    "ones:floats": lambda x: np.ones((len(x), 3)),
    "ones:bool": lambda x: np.array(True),
    "zeros_like:same": np.zeros_like,
    "zeros_like:other": lambda x: np.zeros_like(x, np.int8),
    "ones_like:same": np.ones_like,
    "ones_like:other": lambda x: np.ones_like(x, bool),
    "full_like:same": lambda x: np.full_like(x, 2),
    "full_like:other": lambda x: np.full_like(x, 2, np.int8),
    "eye:square": lambda x: np.eye(3),
    "eye:above": lambda x: np.eye(len(x), 4, k=1),
    "eye:below": lambda x: np.eye(4, 2, k=-2, dtype=np.int8),
    "eye:bool": lambda x: np.eye(len(x), dtype=bool),
}
