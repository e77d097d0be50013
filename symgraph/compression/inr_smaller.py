"""Networks of images made smaller: pruned, rounded to fewer bits, and fitted again.

The paper names iterative and dynamic pruning and layer-wise quantisation, and gives no schedule;
this one is ours. Iterative: the numbers of smallest magnitude in each hidden matrix go, a part in
every round, and the rest is fitted again after it. Dynamic: one round, in which the gradient
reaches the numbers behind the mask too, and what is largest is chosen again every few steps.
Rounding is part of the last fitting: the loss is that of the rounded numbers, and the gradient goes
through as if they were not rounded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from symgraph.compression.inr import Course, Fitting, Run, checked_images
from symgraph.compression.inr_lanes import Numbers, Task
from symgraph.data.dataset import Images
from symgraph.data.inrset import InrSet
from symgraph.data.siren import Siren
from symgraph.errors import ArgumentError
from symgraph.frozen import frozen

#          first and last layer, the others
KINDS = {
    "float32": ("float32", "float32"),
    "float16": ("float16", "float16"),
    "mixed":   ("float16", "int8"),
    "int8":    ("int8", "int8"),
}  # fmt: skip
PRUNING = ("iterative", "dynamic")


@frozen
class Smaller:
    """What is made smaller: dtypes, the share of hidden numbers that go, in how many rounds.

    `kind` is float32, float16, int8, or mixed: int8 with the first and last layer in float16.
    After each round there are `steps` of fitting from `rate` on.
    """

    kind: str = "mixed"
    sparsity: float = 0.0
    pruning: str = "iterative"
    rounds: int = 3
    steps: int = 300
    rate: float = 1e-3

    def __post_init__(self) -> None:
        for name, choices in (("kind", tuple(KINDS)), ("pruning", PRUNING)):
            if getattr(self, name) not in choices:
                raise ArgumentError(
                    f"Smaller: {name} must be one of {', '.join(choices)}, "
                    f"got {getattr(self, name)!r:.40}."
                )
        number = isinstance(self.sparsity, int | float) and not isinstance(self.sparsity, bool)
        if not (number and 0 <= self.sparsity < 1):
            raise ArgumentError(
                f"Smaller: sparsity must be a share in [0, 1), got {self.sparsity!r:.40}."
            )
        rounds = self.rounds
        if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= 100:
            raise ArgumentError(f"Smaller: rounds must lie in 1 .. 100, got {rounds!r:.40}.")
        Fitting(steps=self.steps, rate=self.rate)  # refuses what cannot be fitted with

    def dtypes(self, siren: Siren) -> tuple[str, ...]:
        """Give the dtype of each layer of a network."""
        ends, hidden = KINDS[self.kind]
        return (ends, *([hidden] * (siren.layers - 1)), ends)

    def kept(self, siren: Siren, share: float) -> tuple[int | None, ...]:
        """Give how many numbers of each matrix stay where this share of the hidden ones goes."""
        if not self.sparsity:
            return (None,) * (siren.layers + 1)
        hidden = max(1, round((1 - share) * siren.width**2))
        return (None, *([hidden] * (siren.layers - 1)), None)

    def tasks(self, siren: Siren) -> list[Task]:
        """Give what is fitted in each round; the last one rounds."""
        plain = ("float32",) * (siren.layers + 1)
        final = Task(self.dtypes(siren), self.kept(siren, self.sparsity))
        if not self.sparsity:
            return [final]
        if self.pruning == "dynamic":
            return [Task(plain, final.kept, dynamic=True), final]
        shares = [1 - (1 - self.sparsity) ** (n / self.rounds) for n in range(1, self.rounds + 1)]
        return [*(Task(plain, self.kept(siren, share)) for share in shares), final]


def smaller(
    images: InrSet,
    originals: Images | Sequence[Images],
    how: Smaller | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    every: float = 60.0,
    watch: Callable[[Course], None] | None = None,
    backend: str | None = None,
) -> InrSet:
    """Give a set whose networks take fewer bytes, fitted again to the original images.

    What is pruned already stays pruned, whatever `how` says. With a `folder`, checkpoints lie
    there, and a call with the same arguments goes on from them, as with `encode`.

    Raises `DataError` for originals of other sizes than the set has, and `ArgumentError` where
    there are no hidden matrices to prune.
    """
    how = how or Smaller()
    given = checked_images(originals, "smaller")
    images.check_sizes([one.shape[1:] for one in given])
    if how.sparsity and images.siren.layers < 2:
        raise ArgumentError(
            "smaller: a network of one layer has no hidden matrix that could be pruned.",
            fix="sparsity=0, or more layers",
        )
    fitting = Fitting(steps=how.steps, rate=how.rate)
    tasks = how.tasks(images.siren)
    for number, task in enumerate(tasks, start=1):
        place = None if folder is None else Path(folder) / f"round-{number}"
        told = None if watch is None else partial(_told, watch, number, len(tasks))
        held = [layer.kept for layer in images.layers]
        task = replace(task, kept=tuple(map(_least, task.kept, held)))
        images = _again(images, given, fitting, task, place, every, told, backend)
    return images


def _told(watch: Callable[[Course], None], number: int, rounds: int, course: Course) -> None:
    """Tell how far all rounds together have come."""
    share = (number - 1 + course.share) / rounds
    watch(replace(course, share=share, round=number, rounds=rounds))


def _least(wanted: int | None, held: int | None) -> int | None:
    """Give how many numbers stay: as many as wanted, and no more than there are."""
    counts = [count for count in (wanted, held) if count is not None]
    return min(counts, default=None)


def _again(
    images: InrSet,
    originals: Sequence[Images],
    fitting: Fitting,
    task: Task,
    folder: Path | None,
    every: float,
    watch: Callable[[Course], None] | None,
    backend: str | None,
) -> InrSet:
    """Fit all networks again, from where they are."""

    def start(image: int) -> Numbers:
        pairs = [layer.floats(image) for layer in images.layers]
        return Numbers([weight for weight, _ in pairs], [bias for _, bias in pairs])

    run = Run(
        originals, images.siren, fitting, task, start, origin=images, backend=backend, watch=watch
    )
    run.work(folder, every)
    return run.result(images.labels, images.classes)
