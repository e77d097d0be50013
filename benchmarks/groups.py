"""Groups of processes that live as long as a benchmark and work only when it is their turn.

`symgraph.parallel.launch` starts the workers of a group, and `join` makes them a team. Each waits
at a socket of the benchmark's: told to, all of a group make a piece of work, check it, run it or
drop it. Between two orders they are blocked, so that groups can take turns as
functions do. Times are those of rank 0, from where all have come to where all have ended.

Nothing is left behind: a launcher ends with the benchmark, workers with their launcher.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from symgraph.parallel import Team, join, launch
from symgraph.runtime.process import end_with_parent, start

STARTING = 120.0  # seconds until all workers of a group must have come
ENDING = 10.0  # seconds that they have to end, or to say why they did


@dataclass(frozen=True)
class Work:
    """What a worker can be told to run.

    Both take the options of an order: ways to do the work that share their memory. `check` runs
    from a fresh start and gives what there is to say of the result; it may write the result itself
    to the file that it is given.
    """

    run: Callable[..., Any]
    check: Callable[..., dict[str, Any]]
    close: Callable[[], None] = lambda: None
    facts: dict[str, Any] = field(default_factory=dict)


Maker = Callable[..., Work]


class Group:
    """Workers of a program that calls `main`, as the benchmark sees them; a context.

    Raises `RuntimeError` as soon as one of them has ended.
    """

    def __init__(
        self, program: Path, workers: int, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.program, self.workers = program, workers
        self.streams: list[Any] = []
        place = str(folder / f"{workers}-{id(self):x}")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(place)
        self.listener.listen(workers)
        self.listener.settimeout(0.5)
        told = json.dumps({"workers": workers, "socket": place})
        self.launcher = start(
            [sys.executable, str(program), "launch", told], environment=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def _meet(self) -> None:
        """Wait until all workers have come; other groups may start meanwhile."""
        found: dict[int, Any] = {}
        deadline = time.monotonic() + STARTING
        while len(found) < self.workers:
            if self.launcher.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.program.name}: the workers did not start")
            with contextlib.suppress(TimeoutError):
                connection, _ = self.listener.accept()
                connection.settimeout(None)
                stream = connection.makefile("rw", encoding="ascii")
                connection.close()  # the stream holds it
                found[json.loads(stream.readline())["rank"]] = stream
        self.listener.close()
        self.streams = [found[rank] for rank in range(self.workers)]

    def order(self, what: str, name: str, **options: Any) -> list[dict[str, Any]]:
        """Tell all workers to do something, and give what each of them answers."""
        if not self.streams:
            self._meet()
        line = json.dumps({"do": what, "name": name, **options}) + "\n"
        try:
            for stream in self.streams:
                stream.write(line)
                stream.flush()
            lines = [stream.readline() for stream in self.streams]
        except OSError:
            lines = [""]
        if not all(lines):
            raise RuntimeError(f"{what} {name}: a worker ended; what it said stands above")
        return [json.loads(line) for line in lines]

    def make(self, name: str, kind: str, **options: Any) -> dict[str, Any]:
        """Have a piece of work made under a name; give its facts."""
        return self.order("make", name, kind=kind, options=options)[0]

    def check(self, name: str, file: Path | None = None, **options: Any) -> dict[str, Any]:
        """Have a piece of work checked."""
        return self.order("check", name, file=str(file or ""), options=options)[0]

    def run(self, name: str, **options: Any) -> float:
        """Have it run; give the seconds."""
        return float(self.order("run", name, options=options)[0]["seconds"])

    def drop(self, name: str) -> None:
        """Have it forgotten, memory and all."""
        self.order("drop", name)

    def spent(self) -> float:
        """Give the seconds that cores have worked for the workers."""
        return sum(float(one["seconds"]) for one in self.order("say", "what was spent"))

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *exception: object) -> None:
        self.listener.close()
        for stream in self.streams:
            with contextlib.suppress(OSError):
                stream.close()  # where workers end
        try:
            self.launcher.wait(ENDING if self.streams else 0)
        except subprocess.TimeoutExpired:
            self.launcher.kill()  # and with it the workers
            self.launcher.wait()


def main(makers: Mapping[str, Maker], explained: str | None) -> int:
    """Be the launcher of a group, or one of its workers, as the command line says."""
    if len(sys.argv) != 3:
        print(explained)
        return 0 if "--help" in sys.argv else 2
    role, told = sys.argv[1], json.loads(sys.argv[2])
    if role == "launch":
        end_with_parent()
        return launch([sys.executable, sys.argv[0], "work", sys.argv[2]], told["workers"]).status
    team = join()
    with socket.socket(socket.AF_UNIX) as driver:
        driver.connect(told["socket"])
        serve(team, driver.makefile("rw", encoding="ascii"), makers)
    team.close()
    return 0


def serve(team: Team, driver: Any, makers: Mapping[str, Maker]) -> None:
    """Do what the benchmark says until it goes away."""
    made: dict[str, Work] = {}

    def answer(**found: Any) -> None:
        driver.write(json.dumps(found) + "\n")
        driver.flush()

    answer(rank=team.rank)
    for line in driver:
        order = json.loads(line)
        name = order["name"]
        team.report(f"{order['do']} {name}")
        if order["do"] == "make":
            made[name] = makers[order["kind"]](team, **order["options"])
            found = made[name].facts
        elif order["do"] == "check":
            found = made[name].check(order["file"], **order["options"])
        elif order["do"] == "run":
            found = {"seconds": timed(team, partial(made[name].run, **order["options"]))}
        elif order["do"] == "say":
            found = {"seconds": sum(os.times()[:4])}
        else:
            made.pop(name).close()
            gc.collect()
            found = {}
        team.report("its turn is over")  # it keeps nobody waiting
        answer(**found)


def timed(team: Team, run: Callable[[], Any]) -> float:
    """Run together, and give the seconds."""
    team.gather()
    begin = time.perf_counter()
    run()
    team.gather()
    return time.perf_counter() - begin
