"""A training step of an LSTM, written with `scan`, against the best of PyTorch, JAX and PyTensor.

100 steps of a batch of 32, 256 inputs and 256 hidden, in float32: the loss (half the mean square
of all outputs, added up over steps), gradients of all weights, and SGD. PyTorch runs its own LSTM,
and a loop over a cell that is compiled; JAX scans, also with the loop unrolled four times; PyTensor
scans by Numba. Checked are the gradients, against PyTorch in float64.

    python benchmarks/scan.py [--peers torch,jax,pytensor] [--quick]
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import ours
from harness import Contestant, start
from peers import installed, need
from peers.torch_settings import settle
from races import PEERS, WITHIN, list_of

import symgraph as sg

Array = np.ndarray[Any, Any]
TARGET, LR = 1.2, 1e-3


@dataclass(frozen=True)
class Lstm:
    """The arrays of the race: rows (steps, batch, inputs), and weights with gates i, f, g, o."""

    rows: Array
    inputs: Array  # (inputs, 4 hidden)
    hidden: Array  # (hidden, 4 hidden)
    bias: Array

    @property
    def weights(self) -> list[Array]:
        """The arrays that are trained."""
        return [self.inputs, self.hidden, self.bias]

    def gradients(self, trained: list[Array]) -> Array:
        """Give the gradients that led from the weights to others in one step."""
        pairs = zip(self.weights, trained, strict=True)
        return np.concatenate([(old.astype(np.float64) - new).ravel() / LR for old, new in pairs])


def drawn(steps: int, batch: int, inputs: int, hidden: int) -> Lstm:
    """Draw the arrays."""
    rng = np.random.default_rng(3)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    scale = np.float32(hidden**-0.5)
    gates = 4 * hidden
    weights = normal(inputs, gates) * scale, normal(hidden, gates) * scale, normal(gates) * scale
    return Lstm(normal(steps, batch, inputs), *weights)


def our_step(lstm: Lstm, backend: str | None) -> Contestant:
    """Make symgraph's contestant."""
    _, batch, inputs = lstm.rows.shape
    hidden = lstm.hidden.shape[0]
    x = sg.tensor("x", (sg.dim("T"), sg.dim("B"), inputs))
    wx, wh, bias = (sg.shared(one, name) for one, name in zip(lstm.weights, ("wx", "wh", "b")))
    zeros = sg.zeros((x.shape[1], hidden))

    def cell(row: sg.Value, h: sg.Value, c: sg.Value) -> list[sg.Value]:
        gates = row @ wx + h @ wh + bias
        i, f, g, o = (gates[:, k * hidden : (k + 1) * hidden] for k in range(4))
        c = sg.sigmoid(f) * c + sg.sigmoid(i) * sg.tanh(g)
        return [sg.sigmoid(o) * sg.tanh(c), c]

    (outputs, _), _ = sg.scan(cell, x, [zeros, zeros])
    loss = sg.sum(outputs * outputs) / (2 * batch)
    trained = [wx, wh, bias]
    updates = {w: w - LR * g for w, g in zip(trained, sg.grad(loss, trained), strict=True)}
    step = ours.compiled([x], loss, updates, backend=backend, name="lstm")

    def check() -> Array:
        step(lstm.rows)
        found = lstm.gradients([w.value for w in trained])
        for variable, first in zip(trained, lstm.weights, strict=True):
            variable.value = first
        return found

    return Contestant(ours.called(step), lambda: step(lstm.rows), check=check)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--peers", type=list_of(PEERS), default=PEERS, help="who races")
    parser.add_argument("--backend", help="symgraph's backend (default: the one it chooses)")


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("scan", __doc__, rounds=15, options=options)
    settle()
    need("torch")
    from peers import torch_scan

    chosen = benchmark.chosen
    shape = (5, 4, 8, 8) if benchmark.quick else (100, 32, 256, 256)
    lstm = drawn(*shape)
    peers: list[Contestant] = []
    for peer in chosen.peers:
        if installed(peer):
            peers += importlib.import_module(f"peers.{peer}_scan").steps(lstm, LR)
    case = "LSTM {} steps b={} {} -> {} train fp32".format(*shape)
    benchmark.compare(
        case, our_step(lstm, chosen.backend), peers, target=TARGET,
        reference=torch_scan.exact(lstm, LR), tolerance=1e-3, within=WITHIN,
    )  # fmt: skip
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
