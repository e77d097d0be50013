"""Averages by NCCL, against a stand-in of it, on devices that are this CPU."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cuda import device as devices
from symgraph.backends.cuda.device import CupyDevice
from symgraph.errors import ArgumentError, DeviceError, PeerLostError, UnreachableError
from symgraph.parallel import Team, nccl
from symgraph.parallel.nccl import AllReduce, Apart, Communicator, NcclArena
from symgraph.parallel.peer import PeerArena
from symgraph.parallel.step import train_step
from symgraph.parallel.update import Sharded
from tests.backends.host_device import HostDevice
from tests.parallel import nodes
from tests.parallel.host_nccl import HostNccl
from tests.parallel.teams import together

ROWS, WIDE = 7, 40  # rows that ranks do not share evenly


@pytest.fixture
def hosts(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request: Any
) -> list[HostDevice]:
    """Three devices with NCCL, and the library's way to open one of them by number."""
    folder = tmp_path_factory.getbasetemp() / "nccl_kernels"
    folder.mkdir(exist_ok=True)
    made = [HostDevice(folder, f"{request.node.name}:{number}") for number in range(3)]
    library = HostNccl()
    for number, one in enumerate(made):
        one.number, one.nccl = number, library
    found = lambda number=0: made[number]
    monkeypatch.setattr(devices, "device", found)
    for module in ("symgraph.function", "symgraph.parallel.step"):
        monkeypatch.setattr(sys.modules[module], "device", found)
    return made


def averaged(team: Team, host: HostDevice, starts: Any, shares: Any, dtype: str) -> Any:
    """Average arrays that each rank has others of; give what was at the start, and the means."""
    apart = Apart(team)
    variables = [
        sg.shared(sg.cast(one, dtype).eval(), f"v{n}") for n, one in enumerate(starts[team.rank])
    ]
    arena = NcclArena(apart, variables, host, Communicator(team, host))
    averaging = AllReduce(arena)
    first = [one.value for one in variables]
    for variable, numbers in zip(variables, starts[team.rank]):
        variable.value = numbers.astype(variable.value.dtype)
    arena.collect()
    team.gather()
    averaging(shares)
    found = [one.value for one in variables]
    averaging.close()
    arena.close()
    for one, other in zip(variables, found):
        assert np.array_equal(one.value, other)
    return first, found


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        ("float32", 1e-6),
        pytest.param("float64", 1e-14, marks=pytest.mark.full),
        pytest.param("float16", 3e-3, marks=pytest.mark.full),
        pytest.param("bfloat16", 2e-2, marks=pytest.mark.full),
    ],
)
def test_weighted_means_with_the_same_bits_on_all_ranks(
    hosts: list[HostDevice], dtype: str, tolerance: float
) -> None:
    draws = [np.random.default_rng(rank) for rank in range(3)]
    starts = [[one.normal(size=(33, 5)), one.normal(size=())] for one in draws]
    shares = [0.5, 0.2, 0.3]

    def work(team: Team) -> Any:
        return averaged(team, hosts[team.rank], starts, shares, dtype)

    ranks: Any = together(3, work)
    for number in range(2):
        right = sum(share * each[number] for share, each in zip(shares, starts))
        own = ranks[0][1][number]
        np.testing.assert_allclose(own.astype(np.float64), right, rtol=tolerance, atol=tolerance)
        for first, found in ranks:
            assert first[number].tobytes() == ranks[0][0][number].tobytes()
            assert found[number].tobytes() == own.tobytes()
    np.testing.assert_array_equal(ranks[1][0][0], starts[0][0].astype(ranks[1][0][0].dtype))


def test_all_start_with_the_bits_of_rank_0(hosts: list[HostDevice]) -> None:
    odd = np.array([-0.0, np.nan, np.inf, 1e-42, -1e-42, 3.4e38], np.float32)

    def work(team: Team) -> bytes:
        variable = sg.shared(odd if not team.rank else np.full(6, 7.0, np.float32), "v")
        NcclArena(Apart(team), [variable], hosts[team.rank], Communicator(team, hosts[team.rank]))
        return variable.value.tobytes()

    assert together(2, work) == [odd.tobytes()] * 2


def test_a_rank_without_a_share_does_not_count(hosts: list[HostDevice]) -> None:
    starts = [[np.full(9, np.nan)], [np.full(9, 2.0)]]
    found: Any = together(
        2, lambda team: averaged(team, hosts[team.rank], starts, [0.0, 1.0], "float32")
    )
    for _, (mean,) in found:
        np.testing.assert_array_equal(mean, np.full(9, 2.0, np.float32))


RULES = [
    ("params", None, "sgd"),
    ("grads", 0.5, "sgd"),
    pytest.param("grads", None, "sgd", marks=pytest.mark.full),
    pytest.param("grads", None, "adam", marks=pytest.mark.full),
]


def trained(
    team: Team, backend: str, average: str, clip_norm: float | None = None, rule: str = "sgd"
) -> Any:
    """Train a line in three steps; give weights, slots and losses."""
    random = np.random.default_rng(2)
    batches = [random.normal(size=(ROWS, WIDE)).astype(np.float32) for _ in range(3)]
    w = sg.shared(np.linspace(-1, 1, WIDE, dtype=np.float32) * (1 + team.rank), "w")
    x = sg.tensor("x", (sg.dim("B"), WIDE))
    loss = ((x @ w - 1.0) ** 2).mean()
    made = (
        sg.optim.SGD([w], 0.005, momentum=0.9, clip_norm=clip_norm)
        if rule == "sgd"
        else sg.optim.Adam([w], 0.01)
    )
    step = train_step(
        team, [x], loss, made, average=average, backend=backend,
        transport="nccl" if team.size > 1 else "shm",
    )  # fmt: skip
    assert (team.size == 1) or isinstance(step.arena, NcclArena)
    if step.update is not None:
        assert isinstance(step.update, Sharded)
        assert team.size == 1 or isinstance(step.update.gradients, NcclArena)
    first, last = ROWS * team.rank // team.size, ROWS * (team.rank + 1) // team.size
    losses = [step(batch[first:last], row=first).loss for batch in batches]
    found = w.value, *(slot.value for slot in made.slots[w].values()), losses
    step.close()
    return found


def assert_one(found: Any, expected: Any) -> None:
    """Fail unless all ranks have the same bits, which are nearly those of one worker."""
    for own in found:
        for one, other in zip(own, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=5e-6, atol=5e-6)
        for one, other in zip(own, found[0]):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize(("average", "clip_norm", "rule"), RULES)
def test_steps_of_several_devices_are_those_of_one(
    hosts: list[HostDevice], average: str, clip_norm: float | None, rule: str
) -> None:
    expected = trained(sg.parallel.Alone(), "reference", average, clip_norm, rule)
    found = together(3, lambda team: trained(team, f"cuda:{team.rank}", average, clip_norm, rule))
    assert_one(found, expected)
    assert hosts[0].nccl.sums
    assert all(host.launches for host in hosts)


@pytest.mark.full
@pytest.mark.parametrize("average", ["params", "grads"])
def test_on_several_machines_it_is_one_communicator(hosts: list[HostDevice], average: str) -> None:
    expected = trained(sg.parallel.Alone(), "reference", average)
    found = nodes.together([[0, 2], [1]], lambda team: trained(team, f"cuda:{team.rank}", average))
    assert_one(found, expected)
    assert {room.barrier.parties for room in hosts[0].nccl.rooms.values()} == {3}


def test_identifiers_as_older_versions_have_them(hosts: list[HostDevice]) -> None:
    library = HostNccl(old=True)
    for one in hosts:
        one.nccl = library
    found = together(2, lambda team: Communicator(team, hosts[team.rank]).close())
    assert found == [None, None]


# -- what goes wrong -------------------------------------------------------------------------------


def test_two_ranks_on_one_card_are_refused(hosts: list[HostDevice]) -> None:
    hosts[2].card = hosts[0].card
    for problem in together(3, lambda team: Communicator(team, hosts[team.rank])):
        assert isinstance(problem, ArgumentError)
        assert problem.message.startswith("transport nccl: workers 0 and 2 are on one card, ")
        assert "--device-map 0,1; or transport peer" in problem.fix


def test_without_nccl_all_ranks_say_what_to_install(hosts: list[HostDevice]) -> None:
    class Without(HostDevice):
        @property
        def nccl(self) -> Any:
            raise DeviceError("CuPy finds no NCCL.", fix="pip install something")

        @nccl.setter
        def nccl(self, value: Any) -> None:
            pass

    hosts[1] = Without(hosts[1].folder, "without")
    for problem in together(2, lambda team: Communicator(team, hosts[team.rank])):
        assert isinstance(problem, DeviceError)
        assert problem.message == "transport nccl: CuPy finds no NCCL."
        assert problem.fix == "pip install something"


def test_cupy_says_whether_it_has_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    made = CupyDevice.__new__(CupyDevice)
    made._cupy = SimpleNamespace(cuda=SimpleNamespace(nccl=SimpleNamespace(available=False)))
    for version, name in ((12040, "nvidia-nccl-cu12"), (13000, "nvidia-nccl-cu13")):
        monkeypatch.setattr(devices, "driver_version", lambda version=version: version)
        with pytest.raises(DeviceError, match="CuPy finds no NCCL") as problem:
            _ = made.nccl
        assert problem.value.fix == f"pip install {name}"
    there = SimpleNamespace(available=True)
    made._cupy.cuda.nccl = there
    assert made.nccl is there


def line(team: Team, host: HostDevice) -> Any:
    """Take one step of a line; give the weights."""
    w = sg.shared(np.float32([1, 2, 3]), "w")
    x = sg.tensor("x", (sg.dim("B"), 3))
    rule, backend = sg.optim.SGD([w], 0.5), f"cuda:{host.number}"
    step = train_step(team, [x], (x @ w).mean(), rule, backend=backend, transport="nccl")
    assert isinstance(step.update, Sharded)
    assert isinstance(step.update.weights, PeerArena)
    step(np.full((1, 3), team.rank + 1, np.float32), row=team.rank)
    return w.value.tolist()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        pytest.param("fails", "NCCL does not connect worker 1: NCCL_ERROR_SYSTEM_ERROR: unhandled "
                     "system error: they average from device to device", marks=pytest.mark.full),
        ("wrong", "NCCL adds up wrongly for worker 0: they average from device to device"),
    ],
)  # fmt: skip
def test_where_it_does_not_work_devices_map_each_others_memory(
    hosts: list[HostDevice], caplog: pytest.LogCaptureFixture, fault: str, text: str
) -> None:
    setattr(hosts[0].nccl, fault, {1} if fault == "fails" else 1.0)
    assert together(2, lambda team: line(team, hosts[team.rank])) == [[0.25, 1.25, 2.25]] * 2
    (said,) = {record.getMessage() for record in caplog.records}
    assert said == text


def test_a_rank_that_does_not_connect_keeps_nobody_waiting(hosts: list[HostDevice]) -> None:
    hosts[0].nccl.fails = {1}
    began = time.monotonic()
    for problem in together(3, lambda team: Communicator(team, hosts[team.rank])):
        assert isinstance(problem, UnreachableError)
        assert problem.message.startswith("NCCL does not connect worker 1: NCCL_ERROR_SYSTEM")
    assert time.monotonic() - began < 10.0


def test_a_death_while_ranks_connect_is_seen(hosts: list[HostDevice]) -> None:
    def work(team: Team) -> Any:
        if team.rank == 2:
            for _ in range(3):  # what is asked before
                team.gather(b'["", ""]')
            return None
        return Communicator(team, hosts[team.rank])

    first, second, _ = together(3, work)
    assert isinstance(first, PeerLostError)
    assert isinstance(second, PeerLostError)


def test_a_death_in_a_sum_ends_it(hosts: list[HostDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    """The device never says that it is done: what a GPU does whose peer is gone."""
    monkeypatch.setattr(nccl, "LOOKING", 0.05)
    left = threading.Event()

    def work(team: Team) -> float:
        communicator = Communicator(team, hosts[team.rank])
        if team.rank:
            left.wait(10.0)
            return 0.0
        hosts[0].late = 1 << 40
        monkeypatch.setattr(communicator._held, "allReduce", lambda *words: left.set())
        began = time.monotonic()
        with pytest.raises(PeerLostError, match="worker 1 is gone"):
            communicator.add_up(0, 1, "float32")
        return time.monotonic() - began

    waited: Any = together(2, work)[0]
    assert waited < 5.0
    assert hosts[0].nccl.aborts == 1


def test_a_slow_sum_is_waited_for(hosts: list[HostDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nccl, "LOOKING", 0.0)

    def work(team: Team) -> Any:
        hosts[team.rank].late = 20
        communicator = Communicator(team, hosts[team.rank])
        return communicator.abort()

    assert together(2, work) == [None, None]
    assert all(host.late < 0 for host in hosts[:2])


def test_memory_of_others_is_not_to_be_had(hosts: list[HostDevice]) -> None:
    def work(team: Team) -> Any:
        apart = Apart(team)
        assert [list(one) for one in apart.nodes] == [[0], [1]]
        assert (apart.node.rank, apart.node.size, apart.whole) == (0, 1, team)
        assert apart.gather(bytes([team.rank])) == [b"\0", b"\1"]
        apart.look()
        apart.gather()  # or one of them has left already
        return len(apart.share(8))

    assert together(2, work) == [1, 1]
