"""Starts the workers of one node of a team: what an engine runs on each machine.

``python -m symgraph.parallel.part`` reads its job, a line of JSON, from standard input. Rank 0's
output is this process's; how it ended is written as JSON to the descriptor that the job names.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from symgraph.parallel.launch import launch
from symgraph.parallel.nodes import PLACE
from symgraph.runtime.process import end_with_parent


def run(job: Mapping[str, Any]) -> None:
    """Start the workers of a node, wait for them, and report."""
    ranks = job["nodes"][job["number"]]
    names = ("nodes", "number", "addresses", "token", "listener", "patience")
    place = json.dumps({name: job[name] for name in names})
    several = len(job["nodes"]) > 1
    outcome = launch(
        job["command"],
        len(ranks),
        environment=lambda rank: {PLACE: place} if several else {},
        patience=job["patience"],
        first=ranks[0] if several else None,
        descriptors=[job["listener"]] if several else [],
    )
    with os.fdopen(job["report"], "w", encoding="utf-8") as report:
        json.dump(asdict(outcome), report)


if __name__ == "__main__":
    end_with_parent()
    # Ray holds Ctrl-C back from what it starts, and what that starts inherits it.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    run(json.loads(sys.stdin.readline()))
