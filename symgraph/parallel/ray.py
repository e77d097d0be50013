"""Ray as the engine: it finds machines, holds their cores or GPUs for us, and starts workers there.

An actor on each machine starts the workers of that machine, which share memory as always, and hands
on what they say. Numbers never go through Ray: leaders of machines exchange them through sockets of
their own. A cluster that this program has to start itself has this machine alone, and all its ports
are on the loopback. One of several machines is made by `ray start`; RAY_ADDRESS leads to it.
"""

from __future__ import annotations

import codecs
import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from symgraph.config import PREFIX, usable_cores
from symgraph.errors import ArgumentError, WorkerError
from symgraph.parallel.launch import GRACE, LOST, Outcome
from symgraph.parallel.meeting import LOOPBACK, listen, own_address
from symgraph.runtime.process import machine, start

INSTALL = "pip install 'symgraph[ray]'"
PLACING = 60.0  # seconds in which Ray has to find cores or GPUs that are said to be free
READING = 0.25  # seconds that an actor waits for something to hand on

# For a cluster that we start. Ray has the first for other systems; on Linux it would open its ports
# to all networks.
_BEGUN = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
_ROOT = str(Path(__file__).resolve().parent.parent.parent)


class Cluster:
    """A Ray cluster that this process is connected to; made by `cluster`."""

    def __init__(self, ray: Any, interface: str) -> None:
        self._ray, self._interface = ray, interface

    def room(self, resource: str = "CPU") -> list[int]:
        """Count the cores, or another resource, of each machine that is alive."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [int(each.get(resource, 0)) for each in nodes]

    def launch(
        self,
        command: Sequence[str],
        workers: int,
        *,
        nodes: int | None = None,
        gpus: bool = False,
        patience: float = 600.0,
        say: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Run a program as workers on this cluster, until all have ended; see `launch.launch`.

        `nodes` is the number of machines to use, the fewest that hold all workers unless given.

        Raises `WorkerError` where there is no room, and `ArgumentError` where machines cannot
        reach each other because ports are on the loopback.
        """
        resource = "GPU" if gpus else "CPU"
        shares = divide(workers, self.room(resource), nodes, resource)
        job = {"command": list(command), "patience": patience, "python": sys.executable,
               "folder": str(Path.cwd()), "gpus": gpus,
               "settings": {k: v for k, v in os.environ.items() if k.startswith(PREFIX)},
        }  # fmt: skip
        group = self._reserve([{resource: share} for share in shares])
        watch = _Watch(self._ray, say or _say)
        try:
            watch.start(group, shares, job, self._interface)
            return watch.run()
        finally:
            watch.kill()
            self._ray.util.remove_placement_group(group)

    def _reserve(self, bundles: list[dict[str, int]]) -> Any:
        placing = import_module("ray.util.placement_group")
        group = placing.placement_group(bundles, strategy="STRICT_SPREAD")
        if not group.wait(PLACING):
            self._ray.util.remove_placement_group(group)
            raise WorkerError(
                f"Ray has not given {bundles} on as many machines within {PLACING:.0f} s.",
                fix="something else runs there: see `ray status`",
            )
        return group


@contextmanager
def cluster(interface: str = LOOPBACK, cores: int = 1) -> Iterator[Cluster]:
    """Connect to the cluster of RAY_ADDRESS, or start one of this machine, for so many workers.

    Raises `WorkerError` where Ray is not installed or does not answer.
    """
    own_address(interface)  # a wrong one must not wait for Ray
    before = dict(os.environ)
    try:
        ray = _connected(cores)
        try:
            yield Cluster(ray, interface)
        finally:
            ray.shutdown()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _connected(cores: int) -> Any:
    options: dict[str, Any] = {"address": os.environ.get("RAY_ADDRESS")}
    if options["address"] is None:
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # in no file
        os.environ.update(_BEGUN)
        count = max(cores, usable_cores())
        options = {"address": "local", "include_dashboard": False, "num_cpus": count}
    ray = _ray()
    try:
        _check_address(options["address"])
        # What Ray tells of addresses and tokens is not for our users; what goes wrong is raised.
        ray.init(
            log_to_driver=False, logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": _path()}}, **options,
        )  # fmt: skip
    except Exception as problem:
        raise WorkerError(
            f"--engine ray: Ray does not answer: {problem}.",
            fix="RAY_ADDRESS must lead to a cluster made by `ray start --head`, or be unset",
        ) from problem
    return ray


def divide(
    workers: int, room: Sequence[int], nodes: int | None = None, resource: str = "CPU"
) -> list[int]:
    """Give the number of workers on each machine: on the fewest, or on `nodes` of them.

    Raises `WorkerError` where there is no room.

    >>> divide(6, [4, 8, 4]), divide(6, [4, 4]), divide(6, [4, 8, 4], nodes=3)
    ([6], [4, 2], [2, 2, 2])
    """
    best = sorted(room, reverse=True)[: nodes or len(room)]
    if sum(best) < workers or (nodes and (nodes > len(room) or nodes > workers)):
        raise WorkerError(
            f"--engine ray: no room for {workers} workers"
            + (f" on {nodes} machines" if nodes else "")
            + f": the cluster has machines with {sorted(room, reverse=True)} {resource}s.",
            fix="fewer workers or --nodes, or more machines: `ray start --address=...` there",
        )
    shares = [0] * len(best)
    if nodes is None:
        for number, place in enumerate(best):
            shares[number] = min(place, workers - sum(shares))
        return [share for share in shares if share]
    while sum(shares) < workers:  # one after the other, on the emptiest
        free = [number for number in range(nodes) if shares[number] < best[number]]
        shares[min(free, key=lambda number: (shares[number], number))] += 1
    return sorted(shares, reverse=True)


# -- on every machine ------------------------------------------------------------------------------


class Node:
    """What runs in the actor of a machine."""

    def __init__(self, interface: str) -> None:
        self._listener = listen(interface)
        self._process: subprocess.Popen[bytes] | None = None
        self._selector = selectors.DefaultSelector()

    def place(self) -> dict[str, Any]:
        """Tell where this is."""
        address = list(self._listener.getsockname()[:2])
        return {"address": address, "machine": machine(), "host": socket.gethostname()}

    def start(self, job: Mapping[str, Any]) -> None:
        """Start the workers of this machine."""
        command = [sys.executable if word == job["python"] else word for word in job["command"]]
        reads, writes = os.pipe()
        descriptors = {"listener": self._listener.fileno(), "report": writes}
        settings = {**job["settings"], **({} if job["gpus"] else {"CUDA_VISIBLE_DEVICES": ""})}
        os.environ.pop("OMP_NUM_THREADS", None)  # Ray's, which knows nothing of our workers
        try:
            self._process = start(
                [sys.executable, "-m", "symgraph.parallel.part"], list(descriptors.values()),
                settings, cwd=job["folder"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )  # fmt: skip
        finally:
            os.close(writes)
            self._listener.close()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**job, "command": command, **descriptors}).encode())
        self._process.stdin.close()
        for kind, stream in (
            ("output", self._process.stdout), ("error", self._process.stderr),
            ("report", os.fdopen(reads, "rb")),
        ):  # fmt: skip
            self._selector.register(stream, selectors.EVENT_READ, kind)  # type: ignore[arg-type]

    def read(self) -> list[tuple[str, bytes]] | None:
        """Give what was said since the last time, or None after the end."""
        said = []
        for key, _ in self._selector.select(READING):
            part = os.read(key.fd, 1 << 16)
            if part:
                said.append((str(key.data), part))
            else:
                self._selector.unregister(key.fileobj)
        if not said and not self._selector.get_map():
            return None
        return said

    def signal(self, number: int) -> None:
        """Pass a signal on to the workers."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


# -- the driver ------------------------------------------------------------------------------------


class _Watch:
    """One launch."""

    def __init__(self, ray: Any, say: Callable[[str], None]) -> None:
        self._ray, self._say = ray, say
        self._actors: list[Any] = []
        self._names: list[str] = []
        self._ranks: list[list[int]] = []
        self._reports: dict[int, bytes] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._signals: list[int] = []
        decoder = partial(codecs.getincrementaldecoder("utf-8"), errors="replace")
        self._decoders: defaultdict[tuple[int, str], Any] = defaultdict(decoder)

    def start(
        self, group: Any, shares: Sequence[int], job: Mapping[str, Any], interface: str
    ) -> None:
        """Make an actor for each machine and start its workers, all knowing of each other."""
        scheduling = import_module("ray.util.scheduling_strategies")
        make = self._ray.remote(Node)
        for number, share in enumerate(shares):
            strategy = scheduling.PlacementGroupSchedulingStrategy(group, number)
            held = {"num_gpus": share} if job["gpus"] else {"num_cpus": share}
            options = {"scheduling_strategy": strategy, "max_restarts": 0, "num_cpus": 0, **held}
            self._actors.append(make.options(**options).remote(interface))
        try:
            places = self._ray.get([one.place.remote() for one in self._actors])
        except self._ray.exceptions.RayError as problem:
            raise WorkerError(f"--engine ray: no worker could be started: {problem}") from problem
        if interface == LOOPBACK and len({place["machine"] for place in places}) > 1:
            raise ArgumentError(
                f"--engine ray: workers on {', '.join(one['host'] for one in places)} do not reach "
                f"each other: their ports are on {LOOPBACK}.",
                fix=f"--interface {self._ray.util.get_node_ip_address()}, or this machine's "
                "address on another network that they share and nobody else",
            )
        self._ranks = [list(range(sum(shares[:n]), sum(shares[: n + 1])))
                       for n in range(len(shares))]  # fmt: skip
        self._names = [
            f"node {number} ({place['host']}, workers {', '.join(map(str, ranks))})"
            for number, (place, ranks) in enumerate(zip(places, self._ranks))
        ]
        common = {**job, "nodes": self._ranks, "token": secrets.token_hex(32),
                  "addresses": [place["address"] for place in places]}  # fmt: skip
        self._ray.get(
            [one.start.remote({**common, "number": n}) for n, one in enumerate(self._actors)]
        )

    def run(self) -> Outcome:
        """Hand on what workers say, until all have ended or one machine is gone."""
        waiting = {one.read.remote(): number for number, one in enumerate(self._actors)}
        passed, deadline = 0, float("inf")
        with self._held():
            while waiting and time.monotonic() < deadline:
                ready, _ = self._ray.wait(list(waiting), timeout=1.0)
                for reference in ready:
                    number = waiting.pop(reference)
                    if self._heard(number, reference):
                        waiting[self._actors[number].read.remote()] = number
                for sent in self._signals[passed:]:
                    for one in self._actors:
                        one.signal.remote(sent)
                passed = len(self._signals)
                if deadline == float("inf") and any(one.status for one in self._outcomes.values()):
                    deadline = time.monotonic() + GRACE + 15
        for number in waiting.values():
            self._lost(number, "does not answer")
        return self._outcome()

    def _lost(self, number: int, how: str) -> None:
        """Note and say that a whole machine is the reason."""
        reason = f"{self._names[number]} {how}"
        self._outcomes[number] = Outcome(1, self._ranks[number][0], reason, killed=True)
        self._say(reason)

    def _heard(self, number: int, reference: Any) -> bool:
        """Hand on what was said; tell whether there will be more."""
        try:
            said = self._ray.get(reference)
        except self._ray.exceptions.RayError as problem:
            self._lost(number, f"is gone: {str(problem).splitlines()[0]}")
            return False
        if said is None:
            if report := self._reports.get(number):
                self._outcomes[number] = Outcome(**json.loads(report))
            else:
                self._lost(number, "ended without a word of how its workers did")
            return False
        for kind, part in said:
            if kind == "report":
                self._reports[number] = self._reports.get(number, b"") + part
            else:
                stream = sys.stdout if kind == "output" else sys.stderr
                stream.write(self._decoders[number, kind].decode(part))
                stream.flush()
        return True

    def _outcome(self) -> Outcome:
        """Give the first real reason: workers that miss others are none."""
        found = list(self._outcomes.values())  # in the order in which they came
        for one in (*(each for each in found if each.status != LOST), *found):
            if one.failed is not None:
                return one
        if any(one.status == LOST for one in found) and not self._signals:
            reason = "workers of several machines miss each other, and none says why"
            self._say(reason)
            return Outcome(1, 0, reason)
        return Outcome(next((one.status for one in found if one.status), 0))

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Note Ctrl-C and SIGTERM, to be passed on."""

        def handle(number: int, frame: FrameType | None) -> None:
            self._signals.append(number)

        if threading.current_thread() is not threading.main_thread():  # it would get none
            yield
            return
        before = {one: signal.signal(one, handle) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def kill(self) -> None:
        """End the actors; what they have started ends with them."""
        for one in self._actors:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(one)


def _check_address(address: str) -> None:
    """Raise `OSError` at once where nobody listens: Ray itself would try for two minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), 5.0).close()


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError as problem:
        raise WorkerError(f"--engine ray: Ray is not installed: {problem}.", fix=INSTALL) from None


def _path() -> str:
    known = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([_ROOT, *([known] if known else [])])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
