"""The oracle of CTC: the sum over every path of classes that reads as the target."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def reads(path: tuple[int, ...], blank: int) -> list[int]:
    """Drop repetitions, then blanks."""
    return [c for c, _ in itertools.groupby(path) if c != blank]


def ctc_loss(blank: int = 0, zero: bool = False) -> Callable[..., Array]:
    def oracle(scores: Array, targets: Array, frames: Array, labels: Array) -> Array:
        found = []
        for n in range(scores.shape[1]):
            wanted = [int(c) for c in targets[n, : labels[n]]]
            total = 0.0
            for path in itertools.product(range(scores.shape[2]), repeat=int(frames[n])):
                if reads(path, blank) == wanted:
                    total += math.exp(math.fsum(scores[t, n, c] for t, c in enumerate(path)))
            found.append(-math.log(total) if total else 0.0 if zero else math.inf)
        return np.array(found)

    return oracle


ORACLES: dict[str, Callable[..., Any]] = {
    "ctc_loss": ctc_loss(),
    "ctc_loss:blank": ctc_loss(2),
    "ctc_loss:impossible": ctc_loss(zero=True),
}
