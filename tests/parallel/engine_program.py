"""The tiny model as a program that an engine starts, with accidents that a test asks for.

A file OUT.accident holds what is to happen, once: "kill RANK STEP", "raise RANK STEP" (RANK -1: all
of them). At the end rank 0 prints whether all ranks have the same bits. TEST_NODES=0,0,1 pretends
that the ranks of MPI are on several machines.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from models.common import loop, trainer, workers
from models.common.commandline import exit_with
from symgraph.errors import SymgraphError
from symgraph.parallel import mpi
from tests.models import tiny


class Training(trainer.Training):
    """A run with an accident, and a last look."""

    def run(self) -> int:
        """Run, and compare the ranks."""
        status = super().run()
        numbers = b"".join(p.storage.array.tobytes() for p in self.net.parameters())
        digests = self.team.gather(hashlib.sha256(numbers).digest())
        places = self.team.gather(f"{len(self.team.nodes)}".encode())
        if self.first:
            print(f"ranks {len(digests)} nodes {places[-1].decode()} "
                  f"same bits {len(set(digests)) == 1}")  # fmt: skip
        return status

    def _one(self, *arguments: Any) -> bool:
        settled = super()._one(*arguments)
        happen(Path(f"{self.chosen.out}.accident"), self.team.rank, self.step)
        return settled


def happen(file: Path, rank: int, step: int) -> None:
    """Have the accident, if it is for this rank and this step."""
    if not file.exists():
        return
    kind, who, when = file.read_text(encoding="utf-8").split()
    if step < int(when) or int(who) not in (rank, -1):
        return
    if kind == "slow":
        time.sleep(0.3)
        return
    if kind == "raise":
        raise SymgraphError("an accident.")
    file.unlink()
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Run the command line."""
    trainer.Training = Training  # type: ignore[misc]
    loop.plot_curves = trainer.plot_filters = lambda *args, **options: Path()
    if nodes := os.environ.get("TEST_NODES"):
        join = mpi.join
        workers.mpi.join = lambda: join([int(one) for one in nodes.split(",")])
    return tiny.main(sys.argv[1:])


if __name__ == "__main__":
    exit_with(main)
