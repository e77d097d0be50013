"""Optimisers and schedules: an optimiser turns a loss into updates of shared variables.

May import `nn` and everything above it.
"""

from symgraph.optim.adam import Adam, AdamW
from symgraph.optim.optimizer import Group, Optimizer
from symgraph.optim.scaling import LossScaling
from symgraph.optim.schedules import Cosine, Plateau, Schedule, Steps, Warmup
from symgraph.optim.sgd import SGD

__all__ = [
    "SGD", "Adam", "AdamW", "Cosine", "Group", "LossScaling", "Optimizer", "Plateau",
    "Schedule", "Steps", "Warmup",
]  # fmt: skip
