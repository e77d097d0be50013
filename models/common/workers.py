"""Training in several processes: the flags, who computes where, starting again after a failure.

The same program runs in every worker; `symgraph.parallel.join` tells it which one it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from models.common.runs import find_checkpoint, new_run_folder
from symgraph.backends.cuda.status import status
from symgraph.errors import ArgumentError, DeviceError
from symgraph.io import list_checkpoints
from symgraph.parallel import Alone, Team, join, launch, mpi, ray
from symgraph.parallel.launch import Outcome
from symgraph.parallel.meeting import LOOPBACK
from symgraph.parallel.step import AVERAGES, TRANSPORTS

ENGINES = ("local", "ray", "mpi")
MOST_WORKERS = 256


@dataclass(frozen=True)
class Engine:
    """What starts workers: `start(command, count)`, and how many there is room for now.

    `problem` is why they are not on the GPUs that were asked for.
    """

    start: Callable[[Sequence[str], int], Outcome]
    room: Callable[[], int] = lambda: MOST_WORKERS
    problem: str = ""


def add_worker_flags(
    parser: argparse.ArgumentParser, whole: Any, given: Any, *, images: bool = True
) -> None:
    """Add the flags of data parallel training; `whole` reads a count, `given` notes a setting.

    One of them is for images only.
    """
    add = parser.add_argument_group("data parallel").add_argument
    add(
        "--gpus", type=whole, metavar="N",
        help="train on N GPUs, a process for each; --batch is that of all together. Without as "
        "many GPUs, N CPU workers train the same way, unless --device cuda asks for GPUs",
    )  # fmt: skip
    add("--workers", type=whole, metavar="N", help="train in N processes on this machine's cores")
    add(
        "--device-map", type=_numbers, metavar="I,J",
        help="the GPU of each process, such as 0,0 for two processes on one",
    )  # fmt: skip
    add(
        "--average", action=given, choices=AVERAGES, default="grads",
        help="what processes average: params (weights and momenta, as published) or grads. Both "
        "are one step on the whole batch for SGD; for Adam and clipping only grads is",
    )  # fmt: skip
    add(
        "--average-every", action=given, type=whole, default=1, metavar="K",
        help="steps between two averages of params",
    )  # fmt: skip
    add(
        "--transport", choices=TRANSPORTS,
        help="how processes reach each other's numbers: peer, from GPU to GPU, nccl, by NVIDIA's "
        "library, or shm, memory of this machine (default: peer on GPUs, else shm)",
    )  # fmt: skip
    if images:
        add(
            "--loading", choices=("process", "thread"),
            help="where images are made ready: in a process beside each one that trains, or in a "
            "thread of it (default: process on GPUs or with several processes, else thread)",
        )  # fmt: skip
    add(
        "--engine", choices=ENGINES, default="local",
        help="what starts the processes: this program, Ray on the machines of its cluster, or "
        "mpi: mpiexec -n N python models/NAME.py --engine mpi",
    )  # fmt: skip
    add(
        "--nodes", type=whole, metavar="M",
        help="with --engine ray, machines to use; without it the fewest that hold all processes",
    )  # fmt: skip
    add(
        "--interface", metavar="ADDRESS", default=LOOPBACK,
        help="with --engine ray, this machine's address on the network that the machines share",
    )  # fmt: skip
    add(
        "--elastic", action="store_true",
        help="when a process dies, go on from the last checkpoint, with fewer if it dies again",
    )  # fmt: skip
    add(
        "--patience", type=whole, default=600, metavar="S",
        help="seconds after which a process that keeps the others waiting counts as dead",
    )  # fmt: skip


def team_of(chosen: argparse.Namespace) -> Team | None:
    """Give the team of this process; None where it is the one that starts the others.

    Raises `ArgumentError` for flags that contradict each other, or what `mpiexec` has started.
    """
    if chosen.engine != "mpi":
        team = join()
        alone = isinstance(team, Alone)
        return None if alone and (wanted_workers(chosen) > 1 or chosen.engine == "ray") else team
    wanted_workers(chosen)
    team = mpi.join()
    if team.size == 1 and not chosen.quiet:
        print("--engine mpi: mpiexec has not started this: training alone", flush=True)
    if (chosen.gpus or chosen.workers or team.size) != team.size:
        raise ArgumentError(
            f"--engine mpi: {chosen.gpus or chosen.workers} processes were asked for, "
            f"mpiexec has started {team.size}.",
            fix=f"mpiexec -n {chosen.gpus or chosen.workers}",
        )
    _check_batch(chosen, team.size)
    return team


def wanted_workers(chosen: argparse.Namespace) -> int:
    """Give the number of processes that the flags ask for.

    Raises `ArgumentError` for flags that contradict each other.
    """
    if chosen.gpus and chosen.workers:
        raise ArgumentError(
            f"--gpus {chosen.gpus} --workers {chosen.workers}: processes are on GPUs or on cores.",
            fix="leave one of them out",
        )
    if chosen.workers and chosen.device == "cuda":
        raise ArgumentError(
            "--workers is for processes on this machine's cores.", fix="--gpus N --device cuda"
        )
    count = int(chosen.gpus or chosen.workers or 1)
    if count > MOST_WORKERS:
        raise ArgumentError(f"{count} processes are more than the {MOST_WORKERS} allowed.")
    _check_batch(chosen, count)
    _check_engine(chosen)
    if chosen.device_map and (not chosen.gpus or len(chosen.device_map) != count):
        raise ArgumentError(
            f"--device-map {','.join(map(str, chosen.device_map))}: as many numbers are needed as "
            f"--gpus says, {len(chosen.device_map)} for {chosen.gpus or 'none'}.",
            fix=f"--gpus {len(chosen.device_map)}",
        )
    _check_transport(chosen)
    if chosen.average_every > 1 and chosen.average == "grads":
        raise ArgumentError(
            f"--average-every {chosen.average_every}: gradients are averaged in every step.",
            fix="--average params",
        )
    return count


def _check_batch(chosen: argparse.Namespace, count: int) -> None:
    if chosen.batch < count:
        raise ArgumentError(
            f"--batch {chosen.batch} is less than one for each of {count} processes.",
            fix=f"--batch {count} or more; it is that of all processes together",
        )


def _check_transport(chosen: argparse.Namespace) -> None:
    if chosen.transport in ("peer", "nccl") and not chosen.gpus:
        raise ArgumentError(f"--transport {chosen.transport} is from GPU to GPU.", fix="--gpus N")
    given = chosen.device_map or []
    if chosen.transport == "nccl" and len(set(given)) < len(given):
        raise ArgumentError(
            f"--transport nccl --device-map {','.join(map(str, given))}: NCCL refuses two "
            "processes on one GPU.",
            fix="--transport peer",
        )


def _check_engine(chosen: argparse.Namespace) -> None:
    if chosen.engine != "ray" and (chosen.nodes or chosen.interface != LOOPBACK):
        name = "--nodes" if chosen.nodes else "--interface"
        raise ArgumentError(
            f"{name} is for --engine ray, not for --engine {chosen.engine}.",
            fix="mpiexec has flags of its own for hosts and networks: mpiexec -help",
        )
    if chosen.engine == "ray" and chosen.device_map:
        raise ArgumentError(
            "--device-map: with --engine ray it is Ray that gives GPUs to processes.",
            fix="leave --device-map out",
        )
    if chosen.engine == "mpi" and chosen.elastic:
        raise ArgumentError(
            "--elastic: MPI ends all processes when one dies.",
            fix="start mpiexec again with --resume, or train with --engine ray",
        )


def backend_of(chosen: argparse.Namespace, team: Team | None = None) -> str | None:
    """Give the backend of a process; None is the CPU as the settings have it.

    Raises `DeviceError` where GPUs were asked for that are not there.
    """
    team = team or Alone()
    numbers = _gpus(chosen, _neighbours(team))[0]
    if numbers:
        return f"cuda:{numbers[team.node.rank]}"
    return "cuda" if chosen.device == "cuda" else None


def transport_of(chosen: argparse.Namespace, team: Team) -> str:
    """Give how processes reach each other's numbers."""
    return chosen.transport or ("peer" if _gpus(chosen, _neighbours(team))[0] else "shm")


def loads_in_process(chosen: argparse.Namespace, team: Team) -> bool:
    """Tell whether images are made ready in a process of their own."""
    if chosen.loading is not None:
        return bool(chosen.loading == "process")
    return team.size > 1 or chosen.device == "cuda" or bool(_gpus(chosen, _neighbours(team))[0])


def _neighbours(team: Team) -> Sequence[int]:
    """Give the ranks of the own machine, which numbers its GPUs by itself."""
    return next(each for each in team.nodes if team.rank in each)


def _gpus(chosen: argparse.Namespace, ranks: Sequence[int]) -> tuple[list[int], str]:
    """Give the GPUs of some ranks of this machine; none, and why, where they are not to be had."""
    if not getattr(chosen, "gpus", None):
        return [], ""
    found = status()
    numbers = list(range(len(ranks)))
    if chosen.device_map:
        numbers = [chosen.device_map[rank] for rank in ranks]
    there = 0 if found.problem else found.devices
    if max(numbers) < there:
        return numbers, ""
    problem = found.problem or (
        f"this machine has {there} GPU{'s' if there > 1 else ''}, not {max(numbers) + 1}"
    )
    _check_cuda(chosen, problem, found.fix or f"--gpus {there}")
    return [], problem


def _check_cuda(chosen: argparse.Namespace, problem: str, fix: str) -> None:
    if problem and chosen.device == "cuda":
        raise DeviceError(
            f"--gpus {chosen.gpus} --device cuda: {problem}.",
            fix=f"{fix}; or leave out --device cuda to train on cores",
        )


def supervise(name: str, chosen: argparse.Namespace) -> int:
    """Train in processes, and start them again if that was wanted; give the exit status."""
    count = wanted_workers(chosen)
    with _engine(chosen, count) as engine:
        if engine.problem and not chosen.quiet:
            instead = f"{count} CPU workers average as GPUs would"
            print(f"--gpus {count}: {engine.problem}; {instead}", flush=True)
        if chosen.resume is not None:
            folder, made = find_checkpoint(chosen.resume, name, chosen.out).parent, False
        else:
            made = chosen.out is None or not Path(chosen.out).exists()
            folder = new_run_folder(name, chosen.out)
        try:
            return _train(folder, count, chosen, engine)
        finally:
            if made:
                with suppress(OSError):  # it holds something
                    folder.rmdir()


@contextmanager
def _engine(chosen: argparse.Namespace, count: int) -> Iterator[Engine]:
    """Give what starts so many workers."""
    if chosen.engine == "local":
        _, problem = _gpus(chosen, range(count))
        yield Engine(partial(launch, patience=chosen.patience), problem=problem)
        return
    with ray.cluster(chosen.interface, count) as found:
        problem = ""
        if chosen.gpus and sum(found.room("GPU")) < count:
            problem = f"the Ray cluster has {sum(found.room('GPU'))} GPUs"
            _check_cuda(chosen, problem, "add machines with GPUs")
        gpus = bool(chosen.gpus) and not problem
        options = {"nodes": chosen.nodes, "gpus": gpus, "patience": chosen.patience}
        resource = "GPU" if gpus else "CPU"
        yield Engine(partial(found.launch, **options), lambda: sum(found.room(resource)), problem)


def _train(folder: Path, count: int, chosen: argparse.Namespace, engine: Engine) -> int:
    resume = [] if chosen.resume is None else ["--resume", str(chosen.resume)]
    before, failures = _newest(folder), 0  # which may not be the one that is resumed
    while True:
        words = [*chosen.words, "--out", str(folder), *resume]
        done = engine.start([*program(), *words, *_as(count, chosen)], count)
        if done.failed is None:
            return done.status
        newest = _newest(folder)
        if not chosen.elastic or not done.killed:
            if newest:
                _say(f"last checkpoint {newest}; go on with --resume {folder}")
            return done.status
        failures = failures + 1 if newest == before else 1
        count = min(count - (failures > 1), engine.room())
        if count == 0:
            _say("no process gets any further: given up")
            return done.status
        if newest != before:  # or it goes on from where it began
            before, resume = newest, ["--resume", str(newest)]
        those = f"{count} process{'es' if count > 1 else ''}"
        _say(f"going on with {those} from {resume[-1] if resume else 'the beginning'}")


def _as(count: int, chosen: argparse.Namespace) -> list[str]:
    """Give the flags of a smaller team, where processes were lost."""
    if count == (chosen.gpus or chosen.workers):
        return []
    if chosen.gpus:
        fewer = ",".join(map(str, (chosen.device_map or [])[:count]))
        return ["--gpus", str(count), *(["--device-map", fewer] if fewer else [])]
    return ["--workers", str(count)]


def _newest(folder: Path) -> Path | None:
    found = list_checkpoints(folder)
    return found[-1] if found else None


def program() -> list[str]:
    """Give the command that started this program, without its arguments."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return [sys.executable, "-m", spec.name]
    return [sys.executable, str(Path(sys.argv[0]).resolve())]


def _numbers(text: str) -> Sequence[int]:
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = [-1]
    if min(found) < 0:
        raise argparse.ArgumentTypeError(f"must be numbers of GPUs such as 0,1, not {text!r}")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
