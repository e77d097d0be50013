"""What the second opinions of PyTorch on whole models share.

Training is chaotic, so the two are not run side by side: symgraph trains, and at some steps both
compute one step from the same weights, images and dropout masks. Of a million pre-activations one
or two are zero but for rounding, and either side of such a kink is right; each changes the first
layer's gradient by a thousandth. So PyTorch takes the side that symgraph took, wherever its own
values say that the two sides differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.data import Loader, digits
from symgraph.graph.walk import topological
from symgraph.nn import MaxPool2d
from symgraph.ops.random import RandomBernoulli

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

Arrays = dict[str, np.ndarray]


@dataclass
class Seen:
    """What symgraph computed on a batch; `kinks` are the operands of relu and max_pool in order."""

    loss: float
    gradients: Arrays
    masks: list[np.ndarray]
    kinks: list[np.ndarray]


@dataclass
class Probe:
    """A function that shows a step; it changes nothing but the next masks and running statistics,
    on which no step depends.
    """

    function: sg.Function
    names: list[str]
    masks: int

    @classmethod
    def of(cls, net: sg.nn.Module, images: sg.Value, labels: sg.Value) -> Probe:
        """Compile it."""
        loss = sg.nn.cross_entropy(net(images, train=True), labels).mean()
        named = dict(net.named_parameters())
        nodes = topological([loss])
        masks = [node for node in nodes if isinstance(node.op, RandomBernoulli)]
        masks.sort(key=lambda mask: mask.op.node)  # numbered in the order of the layers
        kinks = [node.inputs[0] for node in nodes if node.op.name in ("relu", "max_pool")]
        gradients = sg.grad(loss, list(named.values()))
        function = sg.function([images, labels], [loss, *gradients, *masks, *kinks])
        return cls(function, list(named), len(masks))

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> Seen:
        """Run it on a batch."""
        loss, *found = self.function(images, labels)
        count = len(self.names)
        masks, kinks = found[count : count + self.masks], found[count + self.masks :]
        return Seen(float(loss), dict(zip(self.names, found[:count])), masks, kinks)


# Computes loss and gradients from images, labels and what symgraph saw.
Peer = Callable[[np.ndarray, np.ndarray, Seen], tuple[float, Arrays]]


def close_to_zero(difference: Any, values: Any, seen: np.ndarray) -> bool:
    """Say whether differences from what was seen are rounding, next to the values themselves."""
    scale = values.detach().abs().max() * 1e4 * float(np.finfo(seen.dtype).eps)
    return bool((difference.detach().abs() <= scale).all())


def relu_like(value: Any, seen: np.ndarray) -> Any:
    """Take the side of zero that symgraph took, where it is the same or a matter of rounding."""
    side = torch.from_numpy(seen > 0)
    assert close_to_zero(value[side != (value > 0)], value, seen)
    return value * side


def pool_like(value: Any, layer: MaxPool2d, seen: np.ndarray) -> Any:
    """Take the element of each window that symgraph took, if it is as large but for rounding."""
    pool, window = torch.nn.functional.max_pool2d, (layer.kernel, layer.stride, layer.padding)
    _, places = pool(torch.from_numpy(seen), *window, return_indices=True)
    found = value.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)
    assert close_to_zero(pool(value, *window) - found, value, seen)
    return found


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Give the norm of the difference over the norm."""
    wide = expected.astype(float)
    return float(np.linalg.norm(found.astype(float) - wide) / np.linalg.norm(wide))


def assert_same_step(peer: Peer, probe: Probe, batch: Any, limit: float, state: str) -> None:
    """Fail unless loss and every gradient on a batch agree."""
    seen = probe(batch.images, batch.labels)
    loss, expected = peer(batch.images, batch.labels, seen)
    assert seen.loss == pytest.approx(loss, rel=limit), state
    assert seen.gradients.keys() == expected.keys()
    errors = {name: difference(seen.gradients[name], expected[name]) for name in expected}
    wrong = {name: error for name, error in errors.items() if not error < limit}
    assert not wrong, f"{state}: {wrong}"


def batches(batch: int, crop: int, size: int = 256) -> Iterator[Any]:
    """Give digits for ever."""
    with Loader(digits(size, "train"), batch, seed=3, crop=crop, augment=True) as loader:
        while True:
            yield loader.next_batch()


def states(steps: list[int], train: sg.Function, feed: Iterator[Any]) -> Iterator[int]:
    """Train, and stop at some steps."""
    for step in range(max(steps) + 1):
        if step in steps:
            yield step
        batch = next(feed)
        train(batch.images, batch.labels)
