"""A training step that every worker takes on its own rows of a batch, and that ends as one step.

With ``average="params"`` each worker updates its variables from its own rows, and then weights,
momenta and whatever else was updated are averaged, as published for AlexNet. With
``average="grads"`` gradients are averaged and each worker updates a part of all weights and their
momenta, see `update`. For updates that are linear in the gradient (SGD, momentum, Nesterov, decay)
both are one step on the whole batch; Adam, clipping by norm and the statistics of batch norm are
not linear, and for them only ``"grads"`` is that step (of batch norm the running statistics are
averaged in both).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from symgraph.autodiff.reverse import grad
from symgraph.backends.choice import device_number
from symgraph.backends.cuda.device import device
from symgraph.errors import ArgumentError, UnreachableError
from symgraph.frozen import frozen
from symgraph.function import Function, function
from symgraph.graph.dtypes import is_float, numpy_dtype
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.graph.walk import topological
from symgraph.ops.random import Random
from symgraph.optim.optimizer import Optimizer
from symgraph.parallel.arena import Arena
from symgraph.parallel.between import averaging
from symgraph.parallel.cut import Family, cut
from symgraph.parallel.momenta import ArenaOf
from symgraph.parallel.nccl import Apart, Communicator, NcclArena
from symgraph.parallel.peer import PeerArena
from symgraph.parallel.team import PART, Team
from symgraph.parallel.update import Sharded, Update, Whole

AVERAGES = ("params", "grads")
TRANSPORTS = ("shm", "peer", "nccl")

_log = logging.getLogger("symgraph")

_WORD = struct.Struct("<dq")


@frozen
class Result:
    """What all ranks know after a step: the mean loss of all rows.

    `settled` tells that all ranks have the same variables: a moment to measure, save or stop.
    """

    loss: float
    rows: int
    settled: bool


class Step:
    """A training step of a team; made by `train_step`.

    `arena` holds what is averaged as it is, after the update if that is `local`'s.
    """

    def __init__(
        self,
        team: Team,
        local: Function,
        update: Update | None,
        arena: Arena,
        every: int,
        own: Iterable[Shared] = (),
    ) -> None:
        self.team, self.local, self.update, self.arena, self.every = (
            team, local, update, arena, every
        )  # fmt: skip
        self._own = frozenset(own)  # variables of this rank only
        self.averaging = averaging(arena)
        self.streams = _streams(local)
        self._share_rest()
        self._offset_of: tuple[int, ...] = ()  # the row that streams stand at, and their versions
        self._since, self._counts = 0, [0] * team.size  # steps, and rows of each rank, not averaged

    def __call__(self, *arrays: Array, row: int = 0, settle: bool = False) -> Result:
        """Take a step on this rank's rows, which begin at `row` of the whole batch.

        `settle` asks, on all ranks alike, for an average now, whatever `every`. A rank may have no
        rows. Raises `ArgumentError`, on all ranks, where none has any.
        """
        rows = int(arrays[0].shape[0])  # an array of a device may have no length
        self._offset(row)
        loss = self._local(arrays) if rows else self._nothing(arrays)
        self._offset_of = (row, *self._versions())
        self.arena.collect()
        if self.update is not None:
            self.update.collect()
        found = [_WORD.unpack(one) for one in self.team.gather(_WORD.pack(loss, rows))]
        whole = sum(rows for _, rows in found)
        if not whole:
            raise ArgumentError("step: no rank has any rows.", fix="leave such a step out")
        mean = found[0][0]
        if self.team.size > 1:
            mean = sum(loss * rows for loss, rows in found if rows) / whole
        self._since += 1
        self._counts = [n + m for n, m in zip(self._counts, (rows for _, rows in found))]
        settled = settle or self._since >= self.every
        if settled:
            self._average()
        return Result(mean, whole, settled)

    def _local(self, arrays: Sequence[Array]) -> float:
        return float(self.local(*arrays))

    def _nothing(self, arrays: Sequence[Array]) -> float:
        """Have counters and random streams go on as elsewhere, and nothing else."""
        # With an average in each step a share of 0 forgets what these made-up rows do.
        kept = [one.value for one in self.arena.variables] if self.every > 1 else []
        loss = self._local([np.zeros((1, *one.shape[1:]), one.dtype) for one in arrays])
        for variable, numbers in zip(self.arena.variables, kept):
            variable.value = numbers
        return loss

    def _average(self) -> None:
        total = sum(self._counts)
        shares = [count / total for count in self._counts]
        if self.arena.segments:
            self.averaging(shares)
        if self.update is not None:
            self.update(shares)
        self._since, self._counts = 0, [0] * self.team.size

    def _offset(self, row: int) -> None:
        """Have random values by row drawn as of the whole batch.

        A state on a device is not looked at where nobody else has written it since the last step.
        """
        if (row, *self._versions()) == self._offset_of:
            return
        for variable in self.streams:
            seed, step, _ = variable.value
            variable.value = np.array([seed, step, row], np.uint64)

    def _versions(self) -> tuple[int, ...]:
        return tuple(variable.storage.version for variable in self.streams)

    def start(self) -> None:
        """Give all ranks the numbers of rank 0, where more than steps has changed them."""
        self.arena.broadcast()
        if self.update is not None:
            self.update.start()
        self._share_rest()

    def _share_rest(self) -> None:
        """Give all ranks rank 0's numbers of what is written outside arenas, such as counters."""
        written = dict.fromkeys(self.local.graph.updates)
        held = {*self.arena.variables, *self._own}
        if self.update is not None:
            written.update(dict.fromkeys(self.update.written))
            held.update(self.update.held)
        rest = [one for one in written if one not in held]
        if self.team.size > 1:
            Arena(self.team, [one for one in rest if is_float(one.dtype)]).close()
            for one in rest:
                if not is_float(one.dtype):
                    _send(self.team, one)

    def close(self) -> None:
        """Give the memory of the functions back, and the variables memory of their own."""
        self.local.close()
        if self.update is not None:
            self.update.close()
        self.averaging.close()
        self.arena.close()


def train_step(
    team: Team,
    inputs: Sequence[Value],
    loss: Value,
    optimizer: Optimizer,
    *,
    average: str = "grads",
    every: int = 1,
    backend: str | None = None,
    transport: str = "shm",
    own: Mapping[Shared, Value] | None = None,
    name: str = "train step",
) -> Step:
    """Compile the step of a team for a loss that is a mean over rows.

    All ranks call it with the same graph, and start from rank 0's numbers. `every` averages after
    so many steps only, with ``average="params"``. `transport` is how ranks reach each other's
    numbers: "shm", memory of the host, or, with backend "cuda", "peer", that of their devices, or
    "nccl", sums by NCCL. `own` are updates of variables that a rank keeps for itself, such as
    states that belong to its rows; then each rank has rows in every step.

    Raises `ArgumentError` for another kind of average, for `every` with gradients, for an
    optimiser that scales its loss, of which every worker would skip steps of its own, and with NCCL
    for two ranks on one card; `DeviceError` where NCCL is not installed.

    >>> import symgraph as sg
    >>> x, w = sg.matrix("x"), sg.shared([1.0, 2.0], "w")
    >>> step = train_step(sg.parallel.join(), [x], (x @ w).mean(), sg.optim.SGD([w], lr=0.5))
    >>> step(np.ones((2, 2), np.float32)).loss, w.value.tolist()
    (3.0, [0.5, 1.5])
    """
    _check(team, optimizer, average, every, backend, transport)
    arena_of = _Arenas(team, backend, transport)
    kept_here = dict(own or {})
    if average == "params" or team.size == 1:
        updates = {**optimizer.updates(loss), **kept_here}
        local = function(inputs, loss, updates=updates, name=name, backend=backend)
        # Alone, variables stay where huge pages are.
        written = _floats(local, optimizer) if team.size > 1 else []
        averaged = [one for one in written if one not in kept_here]
        return Step(team, local, None, arena_of(arena_of.team, averaged), every, kept_here)
    parameters = optimizer.parameters
    kept = [Shared(np.zeros_like(p.storage.array), f"gradient of {p.label}") for p in parameters]
    gradients = dict(zip(kept, grad(loss, parameters)))
    updates = {**gradients, **kept_here}
    local = function(inputs, loss, updates=updates, name=name, backend=backend)
    others = [one for one in _floats(local, optimizer) if one not in updates]
    update = _update(arena_of.team, optimizer, loss, kept, others, arena_of, name, backend)
    return Step(team, local, update, arena_of(arena_of.team, others), every, kept_here)


def _update(
    team: Team,
    optimizer: Optimizer,
    loss: Value,
    kept: Sequence[Shared],
    others: Sequence[Shared],
    arena_of: ArenaOf,
    name: str,
    backend: str | None,
) -> Update:
    """Cut the optimiser's update if its rule allows it, or have every rank make all of it."""
    updates = optimizer.updates(loss, kept)
    families = [
        Family(parameter, gradient, _alike(parameter, optimizer.slots[parameter].values()))
        for parameter, gradient in zip(optimizer.parameters, kept, strict=True)
    ]
    found = cut(updates, families)
    for one in others:
        if one in updates:
            found = f"the loss updates `{one.label}` too"
    if isinstance(found, str):
        if not team.rank:
            rule = type(optimizer).__name__
            _log.warning("%s: every worker makes the whole update of %s: %s", name, rule, found)
        compiled = function([], None, updates=updates, name=f"{name}, update", backend=backend)
        return Whole(arena_of(team, kept), compiled)
    on_host = backend if device_number(backend or "cpu") < 0 else None
    return Sharded(team, found, arena_of, name, on_host)


def _alike(parameter: Shared, slots: Iterable[Shared]) -> list[Shared]:
    """Give the slots that have a number for each of a parameter's."""
    return [one for one in slots if (one.dtype, one.shape) == (parameter.dtype, parameter.shape)]


def _send(team: Team, variable: Shared) -> None:
    """Give all ranks rank 0's numbers of a variable in messages: it is small."""
    own = variable.value.tobytes()
    parts = [team.gather(own[at : at + PART])[0] for at in range(0, len(own), PART)]
    numbers = np.frombuffer(b"".join(parts), numpy_dtype(variable.dtype))
    variable.value = numbers.reshape(variable.storage.array.shape)


def _check(
    team: Team,
    optimizer: Optimizer,
    average: str,
    every: int,
    backend: str | None,
    transport: str,
) -> None:
    if average not in AVERAGES:
        raise ArgumentError(
            f"train_step: average={average!r:.40} is none of {', '.join(AVERAGES)}."
        )
    if transport not in TRANSPORTS or (transport != "shm" and device_number(backend or "cpu") < 0):
        raise ArgumentError(
            f"train_step: transport={transport!r:.40} with backend={backend!r}.",
            fix='transport="shm", or "peer" or "nccl" with backend="cuda:0"',
        )
    if every < 1 or (every > 1 and average == "grads"):
        raise ArgumentError(
            f"train_step: every={every} with average={average!r}: "
            + ("it counts steps from 1." if every < 1 else "gradients are averaged in each step."),
            fix='average="params", or every=1',
        )
    if optimizer.scaling is not None and team.size > 1:
        raise ArgumentError(
            "train_step: an optimiser with loss scaling would skip different steps on each worker.",
            fix='train with precision="bf16", or with one worker',
        )


class _Arenas:
    """Makes arenas of the kind that was wanted, or, where ranks do not reach each other, others.

    `team` is how those see the team that is to have them.
    """

    def __init__(self, team: Team, backend: str | None, transport: str) -> None:
        self.team = team
        self._device = device_number(backend or "cpu")
        self._nccl = self._communicator(team) if transport == "nccl" and team.size > 1 else None
        if self._nccl is not None:
            self.team = Apart(team)
        self._peers = transport != "shm" and len(team.nodes) == 1

    def _communicator(self, team: Team) -> Communicator | None:
        try:
            return Communicator(team, device(self._device))
        except UnreachableError as problem:
            way = "from device to device" if len(team.nodes) == 1 else "through memory of the host"
            _tell(team, problem, way)
        return None

    def __call__(self, team: Team, variables: Sequence[Shared]) -> Arena:
        if self._nccl is not None:
            return NcclArena(team, variables, device(self._device), self._nccl)
        if self._peers and variables:
            try:
                return PeerArena(team, variables, device(self._device))
            except UnreachableError as problem:
                self._peers = False
                _tell(team, problem, "through memory of the host")
        return Arena(team, variables)


def _tell(team: Team, problem: UnreachableError, way: str) -> None:
    """Say, once for all ranks, which have the same problem, how they average instead."""
    if not team.rank:
        _log.warning("%s: they average %s", problem.message.rstrip("."), way)


def _floats(local: Function, optimizer: Optimizer) -> list[Shared]:
    """Give the floats that a step writes: weights first, then momenta, then others."""
    slots = [slot for kept in optimizer.slots.values() for slot in kept.values()]
    first = [*optimizer.parameters, *slots]
    written = [one for one in local.graph.updates if is_float(one.dtype)]
    order = {one: number for number, one in enumerate(first)}
    return sorted(written, key=lambda one: order.get(one, len(order)))


def _streams(local: Function) -> list[Shared]:
    """Give the states of all random streams that a function draws from."""
    found: dict[Shared, None] = {}
    for value in topological(local.built.roots):
        if isinstance(value.op, Random) and isinstance(value.inputs[0], Shared):
            found[value.inputs[0]] = None
    return list(found)
