"""The arena of devices, on devices that are this CPU: threads stand for processes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cuda import device as devices
from symgraph.errors import UnreachableError
from symgraph.parallel import Averaging, Team
from symgraph.parallel.peer import PeerArena
from symgraph.parallel.step import train_step
from symgraph.parallel.update import Sharded
from tests.backends.host_device import HostDevice
from tests.parallel.teams import together

ROWS = 6
WIDE = 40  # numbers: each device owns some


@pytest.fixture
def hosts(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request: Any
) -> list[HostDevice]:
    """Two devices, and the library's way to open one of them by number."""
    folder = tmp_path_factory.getbasetemp() / "peer_kernels"
    folder.mkdir(exist_ok=True)
    made = [HostDevice(folder, f"{request.node.name}:{number}") for number in range(2)]
    for number, one in enumerate(made):
        one.number = number
    found = lambda number=0: made[number]
    monkeypatch.setattr(devices, "device", found)
    for module in ("symgraph.function", "symgraph.parallel.step"):
        monkeypatch.setattr(sys.modules[module], "device", found)
    return made


def test_means_by_kernels_of_the_device(hosts: list[HostDevice]) -> None:
    draws = [np.random.default_rng(rank).normal(size=(33, 5)) for rank in (0, 1)]
    starts = [one.astype(np.float32) for one in draws]

    def work(team: Team) -> Any:
        w, n = sg.shared(starts[team.rank], "w"), sg.shared(np.float32(team.rank), "n")
        arena = PeerArena(team, [w, n], hosts[team.rank])
        averaging = Averaging(arena)
        first = w.value
        w.value, n.value = starts[team.rank], np.float32(3 - team.rank)
        arena.collect()
        team.gather()
        averaging([0.25, 0.75])
        found = w.value, n.value
        averaging.close()
        arena.close()
        assert np.array_equal(w.value, found[0])
        return first, *found

    first, second = together(2, work)
    assert np.array_equal(first[0], starts[0])  # type: ignore[index]
    assert np.array_equal(second[0], starts[0])  # type: ignore[index]
    for one, other in zip(first[1:], second[1:]):  # type: ignore[index]
        assert one.tobytes() == other.tobytes()
    expected = 0.25 * starts[0].astype(np.float64) + 0.75 * starts[1]
    np.testing.assert_allclose(first[1], expected, rtol=1e-6, atol=1e-6)  # type: ignore[index]
    assert first[2] == 2.25  # type: ignore[index]
    assert all(host.launches for host in hosts)


@pytest.mark.parametrize(
    ("average", "clip_norm"), [("params", None), ("grads", None), ("grads", 0.5)]
)
def test_steps_of_two_devices_are_those_of_one(
    hosts: list[HostDevice], average: str, clip_norm: float | None
) -> None:
    random = np.random.default_rng(2)
    batches = [random.normal(size=(ROWS, WIDE)).astype(np.float32) for _ in range(3)]

    def train(team: Team, backend: str) -> Any:
        w = sg.shared(np.linspace(-1, 1, WIDE, dtype=np.float32), "w")
        x = sg.tensor("x", (sg.dim("B"), WIDE))
        loss = ((x @ w - 1.0) ** 2).mean()
        rule = sg.optim.SGD([w], 0.005, momentum=0.9, clip_norm=clip_norm)
        step = train_step(
            team, [x], loss, rule, average=average, backend=backend,
            transport="peer" if team.size > 1 else "shm",
        )  # fmt: skip
        first, last = ROWS * team.rank // team.size, ROWS * (team.rank + 1) // team.size
        losses = [step(batch[first:last], row=first).loss for batch in batches]
        found = w.value, *(slot.value for slot in rule.slots[w].values()), losses
        step.close()
        return found

    expected = train(sg.parallel.Alone(), "reference")
    found: Any = together(2, lambda team: train(team, f"cuda:{team.rank}"))
    for own in found:
        for one, other in zip(own, expected):
            np.testing.assert_allclose(one, other, rtol=2e-6, atol=2e-6)
    assert found[0][0].tobytes() == found[1][0].tobytes()


def test_memory_out_of_reach_is_an_error_everywhere(
    hosts: list[HostDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: bytes) -> Any:
        raise devices.DeviceError("the memory of another process cannot be reached: no peers.")

    monkeypatch.setattr(hosts[1], "open", refuse)

    def work(team: Team) -> Any:
        return PeerArena(team, [sg.shared(np.float32([1.0]), "w")], hosts[team.rank])

    for problem in together(2, work):
        assert isinstance(problem, UnreachableError)
        assert "cannot be reached: no peers" in str(problem)


def test_out_of_reach_goes_through_the_host(
    hosts: list[HostDevice], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        PeerArena, "read", lambda self, rank, start, stop: np.zeros(stop - start, np.uint8)
    )

    def work(team: Team) -> Any:
        w = sg.shared(np.float32([1, 2, 3]), "w")
        x = sg.tensor("x", (sg.dim("B"), 3))
        rule, backend = sg.optim.SGD([w], 0.5), f"cuda:{team.rank}"
        step = train_step(team, [x], (x @ w).mean(), rule, backend=backend, transport="peer")
        assert isinstance(step.update, Sharded)
        assert not isinstance(step.update.weights, PeerArena)
        step(np.full((1, 3), team.rank + 1, np.float32), row=team.rank)
        return w.value.tolist()

    assert together(2, work) == [[0.25, 1.25, 2.25]] * 2
    (line,) = {record.getMessage() for record in caplog.records}
    assert line == (
        "workers [0, 1] do not see the memory of the others: "
        "they average through memory of the host"
    )
