"""ResNet against PyTorch: a network written as torchvision writes it, with symgraph's weights.

Loss, every gradient, the running statistics and the logits of evaluation are compared along a
training of symgraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models.common.classifier import inputs, train_step
from models.resnet import STAGES, ResNet, classifier
from symgraph.nn import MaxPool2d
from tests.models.peers import (
    Arrays,
    Probe,
    Seen,
    assert_same_step,
    batches,
    difference,
    pool_like,
    relu_like,
    states,
    torch,
)

nn = torch.nn
POOL = MaxPool2d(3, 2, padding=1)


class Kinks:
    """The non-smooth functions of a network, on the side that symgraph saw, or as they are."""

    def __init__(self, seen: list[np.ndarray] | None) -> None:
        self.seen: Iterator[np.ndarray] | None = None if seen is None else iter(seen)

    def relu(self, value: Any) -> Any:
        """Give max(value, 0)."""
        return value.relu() if self.seen is None else relu_like(value, next(self.seen))

    def pool(self, value: Any) -> Any:
        """Give the maxima of windows of 3 x 3, two apart."""
        if self.seen is None:
            return nn.functional.max_pool2d(value, 3, 2, 1)
        return pool_like(value, POOL, next(self.seen))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> Any:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    """BasicBlock and Bottleneck of torchvision, whose strides are those of ResNet v1.5."""

    def __init__(self, inputs: int, planes: int, stride: int, deep: bool) -> None:
        super().__init__()
        outputs = 4 * planes if deep else planes
        self.count = 3 if deep else 2
        self.conv1 = conv(inputs, planes, 1) if deep else conv(inputs, planes, 3, stride)
        self.conv2 = conv(planes, planes, 3, stride if deep else 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes)
        if deep:
            self.conv3, self.bn3 = conv(planes, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Any, kinks: Kinks) -> Any:
        """Add the branch to the shortcut."""
        out = x
        for number in range(1, self.count + 1):
            out = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out))
            if number < self.count:
                out = kinks.relu(out)
        return kinks.relu(out + (x if self.downsample is None else self.downsample(x)))


class TorchResNet(nn.Module):
    """torchvision's ResNet, and with a 3 x 3 layer in front for small images."""

    def __init__(self, depth: int, classes: int, *, small: bool, width: int = 64) -> None:
        super().__init__()
        counts, deep = STAGES[depth]
        self.small = small
        self.conv1 = conv(3, width, 3) if small else conv(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage, count in enumerate(counts):
            layer = nn.ModuleList()
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                layer.append(Block(channels, width << stage, stride, deep))
                channels = (width << stage) * (4 if deep else 1)
            setattr(self, f"layer{stage + 1}", layer)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any, kinks: Kinks) -> Any:
        """Images to logits."""
        x = kinks.relu(self.bn1(self.conv1(x)))
        x = x if self.small else kinks.pool(x)
        for stage in range(1, 5):
            for block in getattr(self, f"layer{stage}"):
                x = block(x, kinks)
        return self.fc(x.mean((2, 3)))


KINDS = {"weight": "scale", "bias": "shift", "running_mean": "mean", "running_var": "var"}


def ours(name: str) -> str:
    """Give our name of a parameter or running statistic of torchvision."""
    place, kind = name.rsplit(".", 1)
    norm = "bn" in place or place.endswith("downsample.1")
    place = re.sub(r"^(conv|bn)1$", lambda m: f"stem.{int(m[1] == 'bn')}", place)
    place = re.sub(r"^layer(\d)", lambda m: f"stages.{int(m[1]) - 1}", place)
    place = re.sub(
        r"\.(conv|bn)(\d)$", lambda m: f".branch.{3 * int(m[2]) - 3 + (m[1] == 'bn')}", place
    )
    place = place.replace("downsample", "shortcut").replace("fc", "head.1")
    return f"{place}.{KINDS[kind] if norm else kind}"


def turned(array: np.ndarray) -> np.ndarray:
    """Turn the matrix of the dense layer, which the two keep the other way round."""
    return array.T if array.ndim == 2 else array


class Peer:
    """The PyTorch network, with the numbers that ours has at the moment of a call."""

    def __init__(self, net: ResNet, depth: int, **options: Any) -> None:
        self.net, self.torch = net, TorchResNet(depth, 10, **options)
        dtype = net.filters.dtype
        self.torch.to(getattr(torch, dtype))
        self.names = {
            name: ours(name) for name in self.torch.state_dict() if "num_batches" not in name
        }

    def load(self) -> None:
        """Take our numbers."""
        state = self.net.named_state()
        assert sorted(self.names.values()) == sorted(state)
        found = {name: torch.tensor(turned(state[own].value)) for name, own in self.names.items()}
        self.torch.load_state_dict(found, strict=False)

    def __call__(self, images: np.ndarray, labels: np.ndarray, seen: Seen) -> tuple[float, Arrays]:
        """Compute loss and gradients; running statistics move."""
        kinks = Kinks(seen.kinks)
        self.torch.train().zero_grad()
        logits = self.torch(torch.from_numpy(images), kinks)
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels.astype(np.int64)))
        loss.backward()
        assert kinks.seen is not None
        assert next(kinks.seen, None) is None
        named = dict(self.torch.named_parameters())
        gradients = {self.names[name]: turned(p.grad.numpy()) for name, p in named.items()}
        return loss.item(), gradients

    def evaluated(self, images: np.ndarray) -> np.ndarray:
        """Give the logits by running statistics."""
        with torch.no_grad():
            found: np.ndarray = self.torch.eval()(torch.from_numpy(images), Kinks(None)).numpy()
        return found

    def statistics(self) -> Arrays:
        """Give the running means and variances."""
        state = self.torch.state_dict()
        return {own: state[name].numpy() for name, own in self.names.items() if "running" in name}


@pytest.mark.parametrize(("depth", "count"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_the_peer_is_the_published_one(depth: int, count: int) -> None:
    peer = TorchResNet(depth, 1000, small=False)
    assert sum(parameter.numel() for parameter in peer.parameters()) == count


def largest(found: Arrays, expected: Arrays) -> tuple[float, str]:
    """Give the largest difference and whose it is."""
    return max((difference(found[name], array), name) for name, array in expected.items())


#         depth  stem        width  crop  dtype      limit
CASES = [
    (18, "small",    64, 28, "float32", 1e-5),
    (18, "imagenet", 64, 64, "float32", 1e-5),
    (18, "imagenet", 16, 64, "float64", 1e-12),
    (34, "imagenet", 16, 64, "float64", 1e-12),
    (50, "imagenet", 16, 64, "float64", 1e-11),
    (50, "small",    16, 14, "float64", 1e-11),
]  # fmt: skip


@pytest.mark.parametrize(("depth", "stem", "width", "crop", "dtype", "limit"), CASES)
def test_steps_statistics_and_evaluation(
    depth: int, stem: str, width: int, crop: int, dtype: str, limit: float
) -> None:
    """In float32 the deeper ones differ by up to 1e-4: see below."""
    model = classifier(depth, stem, width, crop)
    with sg.config(float_dtype=dtype):
        sg.seed(1)
        net = ResNet(depth, 10, stem=stem, width=width)
        train = train_step(net, model.optimizer(net, 0.02), crop)
        images, labels = inputs(crop)
        probe, logits = Probe.of(net, images, labels), sg.function([images], net(images))
    peer = Peer(net, depth, small=stem == "small", width=width)
    feed = (
        SimpleNamespace(images=batch.images.astype(dtype), labels=batch.labels)
        for batch in batches(8, crop, model.size)
    )
    batch = next(feed)
    for step in states([0, 2], train, feed):
        state = f"after {step} steps"
        peer.load()
        found = logits(batch.images)
        assert difference(found, peer.evaluated(batch.images)) < limit, state
        assert_same_step(peer, probe, batch, limit, state)
        statistics = {name: net.named_state()[name].value for name in peer.statistics()}
        assert largest(statistics, peer.statistics()) < (limit, ""), state
        assert difference(found, logits(batch.images)) > 1e-3  # evaluation follows them


def test_the_difference_of_the_deepest_is_rounding_in_both() -> None:
    """Both in float32 are as far from float64, and by more than 1e-5: no limit in float32 can be
    stricter than that.
    """
    nets, probes, peers = [], [], []
    for dtype in ("float32", "float64"):
        with sg.config(float_dtype=dtype):
            sg.seed(1)
            nets.append(ResNet(50, 10, width=16))
            probes.append(Probe.of(nets[-1], *inputs(64)))
        peers.append(Peer(nets[-1], 50, small=False, width=16))
    for narrow, wide in zip(*(net.named_state().values() for net in nets), strict=True):
        wide.value = narrow.value.astype("float64")
    batch = next(batches(8, 64, 72))
    seen = probes[0](batch.images, batch.labels)
    gradients = []
    for peer, dtype in zip(peers, ("float32", "float64"), strict=True):
        peer.load()
        gradients.append(peer(batch.images.astype(dtype), batch.labels, seen)[1])
    theirs, exact = gradients
    ours = [difference(seen.gradients[name], array) for name, array in exact.items()]
    other = [difference(theirs[name], array) for name, array in exact.items()]
    assert max(ours) > 1e-5
    assert np.median(ours) < 2 * np.median(other)
    assert max(ours) < 3 * max(other)
