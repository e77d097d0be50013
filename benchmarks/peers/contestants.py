"""One contestant for each setting of each peer that is installed.

PyTorch must be; JAX and PyTensor race where they are, unless a script names the peers it wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness import Contestant
from ours import Problem

from peers import installed, torch_nets


def contestants(
    problem: Problem, mode: str, precision: str, peers: Sequence[str] = ("torch", "jax", "pytensor")
) -> list[Contestant]:
    """Make everybody who trains ("train") or computes logits ("infer") on a problem."""
    name = {"train": "training", "infer": "inference"}[mode]
    found = []
    if "torch" in peers:
        make = getattr(torch_nets, name)
        found += [
            make(problem, setting, precision)
            for setting in torch_nets.settings(problem, mode, precision)
        ]
    if "jax" in peers and installed("jax"):
        from peers import jax_nets

        if not jax_nets.lacking(problem.net):
            found.append(getattr(jax_nets, name)(problem, precision))
    if "pytensor" in peers and installed("pytensor") and precision == "fp32":
        from peers import pytensor_nets

        if pytensor_nets.supports(problem.net):
            make = getattr(pytensor_nets, name)
            found += [make(problem, which) for which in pytensor_nets.MODES]
    return found


def exact(problem: Problem, mode: str) -> Any:
    """Compute in float64 what results are checked by, with PyTorch on the whole batch."""
    return torch_nets.exact(problem, mode)


def release() -> None:
    """Drop what compilers hold, before the next row."""
    torch_nets.forget()
