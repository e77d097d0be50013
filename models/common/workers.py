"""Training in several processes: the flags, who computes where, starting again after a failure.

The same program runs in every worker; `symgraph.parallel.join` tells it which one it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from models.common.runs import find_checkpoint, new_run_folder
from symgraph.backends.cuda.status import status
from symgraph.errors import ArgumentError, DeviceError
from symgraph.io import list_checkpoints
from symgraph.parallel import launch
from symgraph.parallel.step import AVERAGES, TRANSPORTS

MOST_WORKERS = 256


def add_worker_flags(parser: argparse.ArgumentParser, whole: Any, given: Any) -> None:
    """Add the flags of data parallel training; `whole` reads a count, `given` notes a setting."""
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
        help="how processes reach each other's numbers: peer, from GPU to GPU, or shm, memory of "
        "this machine (default: peer on GPUs, else shm)",
    )  # fmt: skip
    add(
        "--loading", choices=("process", "thread"),
        help="where images are made ready: in a process beside each one that trains, or in a "
        "thread of it (default: process on GPUs or with several processes, else thread)",
    )  # fmt: skip
    add(
        "--elastic", action="store_true",
        help="when a process dies, go on from the last checkpoint, with fewer if it dies again",
    )  # fmt: skip
    add(
        "--patience", type=whole, default=600, metavar="S",
        help="seconds after which a process that keeps the others waiting counts as dead",
    )  # fmt: skip


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
    if chosen.batch < count:
        raise ArgumentError(
            f"--batch {chosen.batch} has no image for each of {count} processes.",
            fix=f"--batch {count} or more; it counts the images of all processes together",
        )
    if chosen.device_map and (not chosen.gpus or len(chosen.device_map) != count):
        raise ArgumentError(
            f"--device-map {','.join(map(str, chosen.device_map))}: as many numbers are needed as "
            f"--gpus says, {len(chosen.device_map)} for {chosen.gpus or 'none'}.",
            fix=f"--gpus {len(chosen.device_map)}",
        )
    if chosen.transport == "peer" and not chosen.gpus:
        raise ArgumentError("--transport peer is from GPU to GPU.", fix="--gpus N")
    if chosen.average_every > 1 and chosen.average == "grads":
        raise ArgumentError(
            f"--average-every {chosen.average_every}: gradients are averaged in every step.",
            fix="--average params",
        )
    return count


def backend_of(chosen: argparse.Namespace, rank: int = 0) -> str | None:
    """Give the backend of a process; None is the CPU as the settings have it.

    Raises `DeviceError` where GPUs were asked for that are not there.
    """
    numbers = _gpus(chosen)[0]
    if numbers:
        return f"cuda:{numbers[rank]}"
    return "cuda" if chosen.device == "cuda" else None


def transport_of(chosen: argparse.Namespace) -> str:
    """Give how processes reach each other's numbers."""
    return chosen.transport or ("peer" if _gpus(chosen)[0] else "shm")


def loads_in_process(chosen: argparse.Namespace) -> bool:
    """Tell whether images are made ready in a process of their own."""
    if chosen.loading is not None:
        return bool(chosen.loading == "process")
    return wanted_workers(chosen) > 1 or chosen.device == "cuda" or bool(_gpus(chosen)[0])


def _gpus(chosen: argparse.Namespace) -> tuple[list[int], str]:
    """Give the GPU of each process; none, and why, where they are not to be had."""
    count = getattr(chosen, "gpus", None)
    if not count:
        return [], ""
    found = status()
    numbers = list(chosen.device_map or range(count))
    there = 0 if found.problem else found.devices
    if numbers and max(numbers) < there:
        return numbers, ""
    problem = found.problem or (
        f"this machine has {there} GPU{'s' if there > 1 else ''}, not {max(numbers) + 1}"
    )
    if chosen.device == "cuda":
        raise DeviceError(
            f"--gpus {count} --device cuda: {problem}.",
            fix=f"{found.fix or f'--gpus {there}'}; or leave out --device cuda to train on cores",
        )
    return [], problem


def supervise(name: str, chosen: argparse.Namespace) -> int:
    """Train in processes, and start them again if that was wanted; give the exit status."""
    count = wanted_workers(chosen)
    _, problem = _gpus(chosen)
    if problem and not chosen.quiet:
        print(f"--gpus {count}: {problem}; {count} CPU workers average as GPUs would", flush=True)
    if chosen.resume is not None:
        folder, made = find_checkpoint(chosen.resume, name, chosen.out).parent, False
    else:
        made = chosen.out is None or not Path(chosen.out).exists()
        folder = new_run_folder(name, chosen.out)
    try:
        return _train(folder, count, chosen)
    finally:
        if made:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _train(folder: Path, count: int, chosen: argparse.Namespace) -> int:
    resume = [] if chosen.resume is None else ["--resume", str(chosen.resume)]
    before, failures = _newest(folder), 0
    while True:
        words = [*chosen.words, "--out", str(folder), *resume]
        done = launch([*program(), *words, *_as(count, chosen)], count, patience=chosen.patience)
        if done.failed is None:
            return done.status
        newest = _newest(folder)
        if not chosen.elastic or not done.killed:
            if newest:
                _say(f"last checkpoint {newest}; go on with --resume {folder}")
            return done.status
        failures = failures + 1 if newest == before else 1
        if failures > 1:
            count -= 1
        if count == 0:
            _say("no process gets any further: given up")
            return done.status
        before = newest
        resume = ["--resume", str(folder)] if newest else []
        those = f"{count} process{'es' if count > 1 else ''}"
        _say(f"going on with {those} from {newest or 'the beginning'}")


def _as(count: int, chosen: argparse.Namespace) -> list[str]:
    """Give the flags of a smaller team, where processes were lost."""
    if count == (chosen.gpus or chosen.workers):
        return []
    if chosen.gpus:
        numbers = (chosen.device_map or list(range(chosen.gpus)))[:count]
        return ["--gpus", str(count), "--device-map", ",".join(map(str, numbers))]
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
