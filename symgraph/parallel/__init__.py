"""One model in several processes: who they are, what they share, how they average.

`team.py` is what a worker knows of the others; `launch.py` starts and watches workers; `arena.py`
puts variables where all workers reach them; `average.py` averages them there, by a compiled graph;
`step.py` makes a training step of it all.

May import: everything above, up to data.
"""

from __future__ import annotations

from symgraph.parallel.arena import Arena
from symgraph.parallel.average import Averaging
from symgraph.parallel.launch import Outcome, launch
from symgraph.parallel.nodes import join
from symgraph.parallel.step import Step, train_step
from symgraph.parallel.team import Alone, Team

__all__ = [
    "Alone",
    "Arena",
    "Averaging",
    "Outcome",
    "Step",
    "Team",
    "join",
    "launch",
    "train_step",
]
