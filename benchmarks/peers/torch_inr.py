"""Images as small networks in PyTorch, as the published code has them: pixels first, one at a time.

Decoding is a chain of batched products with the networks of a batch, which are gathered by number.
Fitting is one image after another: the whole image in each step, Adam, a rate along a cosine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from harness import Contestant

from peers import load

torch = load("torch")

Array = np.ndarray[Any, Any]


def chain(weights: Sequence[Any], biases: Sequence[Any], places: Any, omega: float) -> Any:
    """Colours (B, P, 3) at places (P, 2), by a product, a sum and a sine for each layer."""
    value = places.expand(len(weights[0]), -1, -1)
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        value = torch.bmm(value, weight) + bias
        if layer < len(weights) - 1:
            value = torch.sin(omega * value)
    return value


def joined(weights: Sequence[Any], biases: Sequence[Any], places: Any, omega: float) -> Any:
    """The same with as few new arrays as eager PyTorch can: bias in the product, sines in place."""
    value = places.expand(len(weights[0]), -1, -1)
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        value = torch.baddbmm(bias, value, weight)
        if layer < len(weights) - 1:
            value = value.mul_(omega).sin_()
    return value


def decoders(networks: Any, places: Array, indices: Array) -> list[Contestant]:
    """Make everybody who gives bytes (B, 3, P) of the images with these numbers."""
    weights = [torch.from_numpy(w.transpose(0, 2, 1).copy()) for w in networks.weights]
    biases = [torch.from_numpy(b.transpose(0, 2, 1).copy()) for b in networks.biases]
    where = torch.from_numpy(places.T.copy())
    chosen = torch.from_numpy(indices.astype(np.int64))

    def decoder(colours: Callable[..., Any]) -> Callable[[], Any]:
        def run() -> Any:
            w = [one.index_select(0, chosen) for one in weights]
            b = [one.index_select(0, chosen) for one in biases]
            found = colours(w, b, where, networks.omega)
            return found.clamp(0, 1).mul(255).round().transpose(1, 2).contiguous()

        return run

    made = {
        "torch bmm": decoder(chain),
        "torch baddbmm in place": decoder(joined),
        "torch compiled": torch.compile(decoder(chain)),
    }

    def contestant(name: str, run: Callable[[], Any]) -> Contestant:
        def call() -> Any:
            with torch.no_grad():
                return run()

        return Contestant(name, call, check=lambda: call().numpy())

    return [contestant(name, run) for name, run in made.items()]


class OneImage:
    """The fitting of one image."""

    def __init__(
        self, networks: Any, image: int, target: Array, places: Array, how: str, steps: int
    ) -> None:
        self.omega = networks.omega
        numbers = [w[image : image + 1].transpose(0, 2, 1).copy() for w in networks.weights]
        numbers += [b[image : image + 1].transpose(0, 2, 1).copy() for b in networks.biases]
        self.own = [torch.from_numpy(one).requires_grad_(True) for one in numbers]
        self.where = torch.from_numpy(places.T.copy())
        self.target = torch.from_numpy(
            target.reshape(1, 3, -1).transpose(0, 2, 1) / np.float32(255)
        )
        fused = {"fused": True} if how != "eager" else {"foreach": True}
        self.rule = torch.optim.Adam(self.own, networks.rate, **fused)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.rule, steps)
        self.loss: Any = torch.compile(self._loss) if how == "compiled" else self._loss
        self.best = math.inf

    def _colours(self) -> Any:
        half = len(self.own) // 2
        return chain(self.own[:half], self.own[half:], self.where, self.omega)

    def _loss(self) -> Any:
        return (self._colours() - self.target).square().mean()

    def error(self) -> float:
        """The mean squared error in bytes."""
        with torch.no_grad():
            found = self._colours().clamp(0, 1).mul(255).round()
            return float((found - (self.target * 255).round()).square().mean())

    def step(self) -> None:
        """One step."""
        self.rule.zero_grad(set_to_none=True)
        self.loss().backward()
        self.rule.step()
        self.schedule.step()


def fitters(
    networks: Any, targets: Sequence[Array], places: Array, steps: int, checked: int
) -> list[Contestant]:
    """Make everybody who fits one image after another; a run gives seconds for image and step."""

    def contestant(how: str) -> Contestant:
        one = OneImage(networks, 0, targets[0], places, how, steps)

        def run() -> float:
            begin = time.perf_counter()
            for _ in range(steps):
                one.step()
            return (time.perf_counter() - begin) / steps

        def check() -> Array:
            made = [
                OneImage(networks, k, targets[k], places, "eager", steps) for k in range(checked)
            ]
            return np.array([each.error() for each in made])

        return Contestant(f"torch {how}, one at a time", run, own_clock=True, check=check)

    return [contestant(how) for how in ("eager", "fused", "compiled")]


def error_after(networks: Any, target: Array, places: Array, steps: int) -> float:
    """Fit one image and give the least error in bytes that it had in the second half."""
    one = OneImage(networks, 0, target, places, "fused", steps)
    best = math.inf
    for number in range(steps):
        if number >= steps // 2:
            best = min(best, one.error())
        one.step()
    return best
