"""AlexNet against PyTorch: loss and every gradient, from symgraph's own states along a training."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models import alexnet
from models.common.classifier import inputs, train_step
from symgraph.nn import LRN, Activation, Conv2d, Dense, Dropout, Flatten, MaxPool2d, Sequential
from tests.models.peers import (
    Arrays,
    Probe,
    Seen,
    assert_same_step,
    batches,
    pool_like,
    relu_like,
    states,
    torch,
)

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


def check(steps: list[int]) -> None:
    sg.seed(1)
    net = alexnet.AlexNet(10)
    train = train_step(net, alexnet.optimizer(net, 0.01), alexnet.SIDE)
    probe = Probe.of(net, *inputs(alexnet.SIDE))
    assert probe.masks == 2
    feed, batch = batches(BATCH, alexnet.SIDE), next(batches(BATCH, alexnet.SIDE))
    for step in states(steps, train, feed):
        assert_same_step(partial(peer, net), probe, batch, 1e-5, f"after {step} steps")


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
    for step in states([0, 5, 20], train, feed):
        assert_same_step(partial(peer, net), probe, Noise(), limit, f"after {step} steps")
