"""How exact the compiled CPU engine is: AlexNet's digits job, by steps from the oracle's states.

The reference backend trains as `python models/alexnet.py` does (its images, order, crops, dropout,
update rule) and gives its states after some steps. From each of them one step is computed by the
reference in float64, which is what is right, by the compiled engine in fp32 and bf16, by the
reference in float32, and by PyTorch, eager in fp32 and with autocast in bf16: the same weights, the
same batch, the same elements dropped. Rows are relative errors; those of gradients are norms of
differences over norms, of all parameters together and of the worst one. Where fp32 takes another
side of a kink of relu or max_pool than float64 does, either is right and gradients differ by more
than rounding: rows "on its own sides" hold it against float64 on the sides that it took. Then ten
steps run freely.

    python benchmarks/cpu_accuracy.py [--steps 0,20,50,100,200] [--free 0,100] [--seed 0]
                                      [--batch 16] [--states FOLDER] [--quick]

With --seeds N it trains the job to its end instead, with the seeds 0 .. N-1, and reports the final
accuracies; `--backend reference --save FILE` keeps the oracle's, `--against FILE` compares.

    python benchmarks/cpu_accuracy.py --seeds 3 [--max-steps N] [--backend cpu] [--save FILE]
                                      [--against FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from final_accuracy import final_accuracy
from harness import Benchmark, Row, start
from kinks import OnSides, Sides, sides
from oracle import NARROW, Array, Errors, Job, State, Step, errors, states
from peers import need
from peers.torch_settings import settle

import symgraph as sg
from models.alexnet import MODEL
from models.common.classifier import Classifier

LIMIT = 1e-5  # of fp32, relative
FACTOR = 1.2  # of PyTorch's error, for bf16
FREE_STEPS = 10
QUICK = {"steps": [0, 2], "free": [2], "batch": 4}  # and a narrow network
SMALLEST = float(np.finfo(np.float64).eps)  # an error of nothing is this
OURS, REFERENCE, TORCH = "compiled fp32", "reference fp32", "torch fp32"
OURS_BF16, TORCH_BF16 = "compiled bf16", "torch autocast bf16"
HEADER = (
    "step", "who", "loss", "gradients", "worst", "of", "other sides", "gradients there", "worst"
)  # fmt: skip


class Comparison:
    """Everybody who computes steps, and what they erred by."""

    def __init__(self, benchmark: Benchmark, seed: int, batch: int, model: Classifier) -> None:
        from peers.torch_steps import TorchJob

        self.benchmark = benchmark
        self.lines: list[tuple[str, ...]] = []
        self.job = Job(seed, batch, model=model)
        self.wide = Job(seed, batch, "float64", model)
        self.exact = self.wide.function(
            [*self.wide.masks, *self.wide.activations], backend="reference"
        )
        self.on_sides = OnSides(self.wide)
        self.compiled = self.job.function(backend="cpu")
        self.shown = self.job.function(self.job.activations, backend="cpu")
        self.bf16 = self.job.function(backend="cpu", precision="bf16")
        self.reference = self.job.function(
            [*self.job.masks, *self.job.activations], backend="reference"
        )
        self.torch = TorchJob(self.job)
        self.autocast = TorchJob(self.job, "bf16")

    def compare(self, state: State) -> None:
        """Compute one step from a state, by everybody."""
        step, count = state.step, len(self.wide.masks)
        self.wide.load(state)
        self.job.load(state)
        exact, seen = self.wide.step(self.exact, step)
        masks, right = seen[:count], sides(self.wide.net, seen[count:])

        ours, _ = self.job.step(self.compiled, step)
        again, activations = self.job.step(self.shown, step)
        self._check_same(step, ours, again)
        del again
        fp32 = {OURS: self._fp32(OURS, step, ours, exact, right, activations, masks)}

        found, seen = self.job.step(self.reference, step)
        if not all(np.array_equal(a, b) for a, b in zip(seen[:count], masks)):
            raise ArithmeticError(f"step {step}: float64 drops other elements than float32")
        fp32[REFERENCE] = self._fp32(REFERENCE, step, found, exact, right, seen[count:], masks)
        self.torch.load(state)
        found, activations = self.torch.step(step, masks)
        fp32[TORCH] = self._fp32(TORCH, step, found, exact, right, activations, masks)

        bf16 = {OURS_BF16: errors(self.job.step(self.bf16, step)[0], exact)}
        self.autocast.load(state)
        bf16[TORCH_BF16] = errors(self.autocast.step(step, masks)[0], exact)
        for who, error in bf16.items():
            self.lines.append((str(step), who, *_cells(error), "", "", ""))
        self._rows(step, fp32, bf16)

    def _check_same(self, step: int, ours: Step, again: Step) -> None:
        """Sides are read from a function with more outputs: it must compute the same bits."""
        same = ours.loss == again.loss and all(
            np.array_equal(array, again.gradients[name]) for name, array in ours.gradients.items()
        )
        if not same:
            self.benchmark.notes.append(
                f"step {step}: asked for its activations, the compiled step has other bits; "
                "its sides of kinks are those of that step"
            )

    def _fp32(
        self, who: str, step: int, found: Step, exact: Step, right: Sides,
        activations: Sequence[Array], masks: Sequence[Array],
    ) -> tuple[Errors, Errors]:  # fmt: skip
        """Give the errors as they are, and on the contestant's own sides of kinks."""
        taken = sides(self.job.net, activations)
        plain = errors(found, exact)
        there = errors(found, self.on_sides.step(step, taken, masks))
        self.lines.append(
            (str(step), who, *_cells(plain), str(taken.differences(right)),
             f"{there.overall:.1e}", f"{there.largest:.1e}")
        )  # fmt: skip
        return plain, there

    def _rows(
        self, step: int, fp32: dict[str, tuple[Errors, Errors]], bf16: dict[str, Errors]
    ) -> None:
        kinds = {"loss": "loss", "overall": "all gradients", "largest": "worst gradient"}
        for place, where in enumerate(("", " on its own sides")):
            for kind, name in kinds.items():
                if not (place and kind == "loss"):
                    found = {who: getattr(pair[place], kind) for who, pair in fp32.items()}
                    self._limit(f"step {step} fp32 {name}{where}", found)
        for kind, name in kinds.items():
            ours, peer = (getattr(bf16[who], kind) for who in (OURS_BF16, TORCH_BF16))
            ours, limit = max(ours, SMALLEST), FACTOR * peer
            ratio, case = limit / ours, f"step {step} bf16 {name}"
            spread, versus = (ratio, ratio), f"{FACTOR} x {TORCH_BF16}"
            self.benchmark.add(Row(case, ours, limit, "", ratio, spread, 1.0, ours, versus))

    def _limit(self, case: str, found: dict[str, float]) -> None:
        """Hold ours against the limit; the others' errors stand beside it."""
        ours = max(found[OURS], SMALLEST)
        beside = ", ".join(f"{who} {found[who]:.1e}" for who in (REFERENCE, TORCH))
        ratio, versus = LIMIT / ours, f"limit ({beside})"
        self.benchmark.add(
            Row(case, ours, LIMIT, "", ratio, (ratio, ratio), 1.0, ours, versus)
        )  # fmt: skip

    def run_freely(self, state: State, steps: int) -> None:
        """Train on from a state, everybody alone; the largest error of a loss counts."""
        right = np.array(self.wide.run(self.wide.training("reference"), state, steps))
        draw = sg.function([self.job.images, self.job.labels], self.job.masks, backend="reference")
        masks = [self.job.call(draw, state.step + number) for number in range(steps)]
        losses = {
            OURS: self.job.run(self.job.training("cpu"), state, steps),
            REFERENCE: self.job.run(self.job.training("reference"), state, steps),
            TORCH: self.torch.run(state, masks),
        }
        off = {who: np.abs(np.array(run) - right) / right for who, run in losses.items()}
        name = f"{steps} free steps from step {state.step}"
        for who, each in off.items():
            shown = " ".join(f"{error:.0e}" for error in each)
            self.benchmark.notes.append(f"{name}, {who}: errors of the losses {shown}")
        self._limit(f"{name}, fp32 loss", {who: float(each.max()) for who, each in off.items()})

    def text(self) -> str:
        """Lay out what everybody erred by."""
        cells = [HEADER, *self.lines]
        widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
            for line in cells
        )


def _cells(error: Errors) -> tuple[str, ...]:
    return f"{error.loss:.1e}", f"{error.overall:.1e}", f"{error.largest:.1e}", error.worst


def numbers(text: str) -> list[int]:
    """Read numbers of steps with commas between them."""
    found = sorted({int(part) for part in text.split(",")})
    if found[0] < 0:
        raise argparse.ArgumentTypeError("steps are >= 0")
    return found


def positive(text: str) -> int:
    """Read a count."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be >= 1")
    return int(text)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    add: Any = parser.add_argument
    add("--steps", type=numbers, default=[0, 20, 50, 100, 200], help="steps before a state")
    add("--free", type=numbers, default=[0, 100], help="states to run freely from")
    add("--seed", type=int, default=0, help="of the job whose states are used (%(default)s)")
    add("--batch", type=positive, default=16, help="images in a batch (%(default)s)")
    add("--states", type=Path, metavar="FOLDER", help="keep the oracle's states, 0.5 GB each")
    add("--seeds", type=positive, metavar="N", help="train to the end with N seeds instead")
    add("--max-steps", type=positive, metavar="N", help="with --seeds: stop after so many steps")
    add("--backend", choices=("cpu", "reference"), default="cpu", help="with --seeds: who trains")
    add("--save", type=Path, metavar="FILE", help="with --seeds: write the accuracies")
    add("--against", type=Path, metavar="FILE", help="with --seeds: compare with these accuracies")


def main() -> int:
    """Compare, or train with several seeds."""
    benchmark = start("cpu_accuracy", __doc__, options=options)
    settle()
    chosen = benchmark.chosen
    if chosen.seeds:
        final_accuracy(benchmark)
        return benchmark.finish()
    need("torch")
    wanted = {name: getattr(chosen, name) for name in QUICK} | (QUICK if benchmark.quick else {})
    length = 2 if benchmark.quick else FREE_STEPS
    model = NARROW if benchmark.quick else MODEL
    comparison = Comparison(benchmark, chosen.seed, wanted["batch"], model)
    every = [*wanted["steps"], *wanted["free"]]
    for state in states(comparison.job, every, chosen.states):
        if state.step in wanted["steps"]:
            comparison.compare(state)
        if state.step in wanted["free"]:
            comparison.run_freely(state, length)
    print(comparison.text())
    print()
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
