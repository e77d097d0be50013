"""A worker that averages until it misses another one, and writes down when: FOLDER."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np

import symgraph as sg
from symgraph.errors import PeerLostError
from symgraph.parallel import Arena, between, join
from symgraph.parallel.launch import LOST


def main(folder: Path) -> None:
    """Average without end."""
    team = join()
    arena = Arena(team, [sg.shared(np.zeros(1 << 18, np.float32), "v")])
    averaging, shares = between.averaging(arena), [1 / team.size] * team.size
    (folder / f"ready.{team.rank}").write_text(str(os.getpid()))
    try:
        while True:
            team.gather()
            averaging(shares)
    except PeerLostError:
        (folder / f"missed.{team.rank}").write_text(str(time.monotonic()))
        sys.exit(LOST)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
