"""One contestant for each setting of each peer that is installed.

PyTorch must be; JAX and PyTensor race where they are, unless a script names the peers it wants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from harness import Contestant
from ours import Problem

from peers import installed, torch_nets

Makers = dict[str, Callable[[], Contestant]]


def makers(
    problem: Problem,
    mode: str,
    precision: str,
    peers: Sequence[str] = ("torch", "jax", "pytensor"),
    settings: Sequence[torch_nets.Setting] | None = None,
) -> Makers:
    """Give, by name, what makes everybody who trains ("train") or computes logits ("infer").

    `settings` are PyTorch's, where they are not the ones that suit the problem.
    """
    name = {"train": "training", "infer": "inference"}[mode]
    found: Makers = {}
    if "torch" in peers:
        make = getattr(torch_nets, name)
        for setting in settings or torch_nets.settings(problem, mode, precision):
            found[f"torch {setting.name}"] = partial(make, problem, setting, precision)
    if "jax" in peers and installed("jax"):
        from peers import jax_nets

        if not jax_nets.lacking(problem.net):
            found["jax"] = partial(getattr(jax_nets, name), problem, precision)
    if "pytensor" in peers and installed("pytensor") and precision == "fp32":
        from peers import pytensor_nets

        if pytensor_nets.supports(problem.net):
            make = getattr(pytensor_nets, name)
            for which in pytensor_nets.MODES:
                found[f"pytensor {which}"] = partial(make, problem, which)
    return found


def contestants(
    problem: Problem, mode: str, precision: str, peers: Sequence[str] = ("torch", "jax", "pytensor")
) -> list[Contestant]:
    """Make everybody who trains ("train") or computes logits ("infer") on a problem."""
    return [make() for make in makers(problem, mode, precision, peers).values()]


def exact(problem: Problem, mode: str, precision: str = "fp64") -> Any:
    """Compute in float64 what results are checked by, with PyTorch on the whole batch."""
    return torch_nets.exact(problem, mode, precision)


def release() -> None:
    """Drop what compilers hold, before the next row."""
    torch_nets.forget()
