"""AlexNet against PyTorch: loss and every gradient, from symgraph's own states along a training.

Training is chaotic, so the two are not run side by side: symgraph trains, and at some steps both
compute one step from the same weights, images and dropout masks. Of a million pre-activations one
or two are zero but for rounding, and either side of such a kink is right; each changes the first
layer's gradient by a thousandth. So PyTorch takes the side that symgraph took, wherever its own
values say that the two sides differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models import alexnet
from models.common.classifier import inputs, train_step
from symgraph.data import Loader, digits
from symgraph.graph.walk import topological
from symgraph.nn import LRN, Activation, Conv2d, Dense, Dropout, Flatten, MaxPool2d, Sequential
from symgraph.ops.random import RandomBernoulli

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

Arrays = dict[str, np.ndarray]
BATCH, SMALL = 4, 51  # images; the side of the small net's images
#        alpha is not divided by the size: torch divides it
LRN_OPTIONS = {"size": 5, "alpha": 5 * 1e-4, "beta": 0.75, "k": 2.0}


class SmallNet(sg.nn.Module):
    """AlexNet with all its kinds of layers, in order, but few channels."""

    def __init__(self, classes: int) -> None:
        relu = Activation("relu")
        self.features = Sequential(
            Conv2d(3, 8, 11, stride=4), relu, MaxPool2d(3, 2), LRN(),
            Conv2d(8, 12, 5, padding=2, groups=2), relu, MaxPool2d(3, 2), LRN(),
        )  # fmt: skip
        self.classifier = Sequential(
            Flatten(), Dense(48, 20), relu, Dropout(0.5, inverted=False), Dense(20, classes)
        )

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        """Images (B, 3, 51, 51) to logits."""
        return self.classifier(self.features(x, train=train), train=train)


@dataclass
class Seen:
    """What symgraph computed on a batch; `kinks` are the operands of relu and max_pool in order."""

    loss: float
    gradients: Arrays
    masks: list[np.ndarray]
    kinks: list[np.ndarray]


@dataclass
class Probe:
    """A function that shows a step; it changes nothing but the next masks."""

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


def close_to_zero(difference: Any, values: Any) -> bool:
    """Say whether differences are rounding, next to the values they are between."""
    scale = values.detach().abs().max() * 1e4 * torch.finfo(values.dtype).eps
    return bool((difference.detach().abs() <= scale).all())


def relu_like(value: Any, seen: np.ndarray) -> Any:
    """Take the side of zero that symgraph took, where it is the same or a matter of rounding."""
    side = torch.from_numpy(seen > 0)
    assert close_to_zero(value[side != (value > 0)], value)
    return value * side


def pool_like(value: Any, layer: MaxPool2d, seen: np.ndarray) -> Any:
    """Take the element of each window that symgraph took, if it is as large but for rounding."""
    pool = torch.nn.functional.max_pool2d
    _, places = pool(torch.from_numpy(seen), layer.kernel, layer.stride, return_indices=True)
    found = value.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)
    assert close_to_zero(pool(value, layer.kernel, layer.stride) - found, value)
    return found


def peer(net: Any, images: np.ndarray, labels: np.ndarray, seen: Seen) -> tuple[float, Arrays]:
    """Compute loss and gradients with PyTorch."""
    f = torch.nn.functional
    weights = {
        name: torch.tensor(variable.value, requires_grad=True)
        for name, variable in net.named_parameters()
    }
    masks, kinks = iter(seen.masks), iter(seen.kinks)
    value = torch.from_numpy(images)
    for part in ("features", "classifier"):
        for number, layer in enumerate(getattr(net, part).layers):
            at = {k: weights.get(f"{part}.{number}.{k}") for k in ("weight", "bias")}
            match layer:
                case Conv2d():
                    options = {"stride": layer.stride, "padding": layer.padding}
                    value = f.conv2d(value, **at, groups=layer.groups, **options)
                case Dense():
                    value = value @ at["weight"] + at["bias"]
                case MaxPool2d():
                    value = pool_like(value, layer, next(kinks))
                case LRN():
                    value = f.local_response_norm(value, **LRN_OPTIONS)
                case Activation():
                    value = relu_like(value, next(kinks))
                case Flatten():
                    value = value.flatten(1)
                case Dropout():
                    value = value * torch.from_numpy(next(masks)).to(value.dtype)
                case _:
                    raise NotImplementedError(type(layer).__name__)
    loss = f.cross_entropy(value, torch.from_numpy(labels.astype(np.int64)))
    loss.backward()
    assert next(masks, None) is None
    assert next(kinks, None) is None
    return loss.item(), {name: weight.grad.numpy() for name, weight in weights.items()}


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Give the norm of the difference over the norm."""
    wide = expected.astype(float)
    return float(np.linalg.norm(found.astype(float) - wide) / np.linalg.norm(wide))


def assert_same_step(net: Any, probe: Probe, batch: Any, limit: float, state: str) -> None:
    seen = probe(batch.images, batch.labels)
    loss, expected = peer(net, batch.images, batch.labels, seen)
    assert seen.loss == pytest.approx(loss, rel=limit), state
    errors = {name: difference(seen.gradients[name], expected[name]) for name in expected}
    wrong = {name: error for name, error in errors.items() if not error < limit}
    assert not wrong, f"{state}: {wrong}"


def batches(batch: int, crop: int) -> Iterator[Any]:
    """Give digits for ever."""
    with Loader(digits(split="train"), batch, seed=3, crop=crop, augment=True) as loader:
        while True:
            yield loader.next_batch()


def states(steps: list[int], net: Any, train: sg.Function, feed: Iterator[Any]) -> Iterator[int]:
    """Train, and stop at some steps."""
    for step in range(max(steps) + 1):
        if step in steps:
            yield step
        batch = next(feed)
        train(batch.images, batch.labels)


def check(steps: list[int]) -> None:
    sg.seed(1)
    net = alexnet.AlexNet(10)
    train = train_step(net, alexnet.optimizer(net, 0.01), alexnet.SIDE)
    probe = Probe.of(net, *inputs(alexnet.SIDE))
    assert probe.masks == 2
    feed, batch = batches(BATCH, alexnet.SIDE), next(batches(BATCH, alexnet.SIDE))
    for step in states(steps, net, train, feed):
        assert_same_step(net, probe, batch, 1e-5, f"after {step} steps")


def test_alexnet() -> None:
    check([0, 5, 20])


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_alexnet_after_fifty_steps() -> None:
    check([50])


@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-13), ("float32", 2e-6)])
def test_the_difference_is_rounding(dtype: str, limit: float) -> None:
    """With the same layers in float64 the difference shrinks as the epsilon does."""
    sg.seed(2)
    with sg.config(float_dtype=dtype):
        net = SmallNet(10)
        batch = sg.dim("B")
        images = sg.tensor("images", (batch, 3, SMALL, SMALL))
        labels = sg.tensor("labels", (batch,), "int32")
        loss = sg.nn.cross_entropy(net(images, train=True), labels).mean()
        optimizer = sg.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
        train = sg.function([images, labels], loss, updates=optimizer.updates(loss))
        probe = Probe.of(net, images, labels)
    rng = np.random.default_rng(5)

    class Noise:
        """Images without flat areas, where maxima would tie."""

        def __init__(self) -> None:
            self.images = rng.normal(0, 1, (8, 3, SMALL, SMALL)).astype(dtype)
            self.labels = rng.integers(0, 10, 8).astype(np.int32)

    feed = iter(Noise, None)
    for step in states([0, 5, 20], net, train, feed):
        assert_same_step(net, probe, Noise(), limit, f"after {step} steps")
