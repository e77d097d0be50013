"""`f.profile(...)` of a graph in stages: the steps of each, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from symgraph.dims import Dim
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.runtime.device import DeviceExecutor
from symgraph.runtime.device_profile import device_profile
from symgraph.runtime.profile import Profile, profile, require_repeat
from symgraph.runtime.staged import One, StagedExecutor


def staged_profile(
    name: str,
    executor: StagedExecutor,
    feeds: Mapping[Value, Array],
    env: Mapping[Dim, int],
    repeat: int,
) -> Profile:
    """Run `repeat` times, after once that does not count; shared variables stay as they are."""
    require_repeat(name, repeat)
    found: list[Profile] = []
    last = executor.executors[-1]

    def timed(one: One, given: dict[Value, Array], sizes: dict[Dim, int]) -> list[Any]:
        if isinstance(one, DeviceExecutor):
            found.append(device_profile(name, one, given, sizes, repeat))
        else:
            found.append(profile(name, one, given, sizes, repeat))
        return [] if one is last else one.run(given, sizes)  # the last alone writes updates

    for _ in executor.walk(feeds, env, timed):
        pass
    rows = tuple(row for part in found for row in part.rows)
    return Profile(name, executor.name, rows, repeat, found[0].peaks)
