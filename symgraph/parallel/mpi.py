"""Workers that `mpiexec` has started, on one machine or on several.

Within a machine they share the same memory as any other workers, and nothing but small messages
goes through MPI; between machines the leaders exchange numbers through it. MPI ends the whole job
when a process dies, so that nobody waits for it in vain; a worker that ends with an error does the
same by hand, since MPI would make it wait for the others.
"""

from __future__ import annotations

import atexit
import io
import os
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np

from symgraph.config import BY_DEFAULT, config
from symgraph.errors import PeerLostError, WorkerError
from symgraph.graph.op import Array
from symgraph.parallel.nodes import Nodes
from symgraph.parallel.team import Alone, Leaders, Team
from symgraph.runtime.process import mapped, shared_memory

INSTALL = "pip install 'symgraph[mpi]', which is mpi4py with MPICH"

# How MPICH, Open MPI, PMIx and Slurm tell a process its rank and the number of processes.
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")

_FILES = "/dev/shm/mpich_shm_"
_SHORT = 60  # bytes of a message that goes in one collective
_LENGTH = struct.Struct("<I")
_PLACE = struct.Struct("<qqq")  # of memory: process, descriptor, inode
_LATE = 1.0  # seconds that a worker with an error leaves to rank 0, which may have the same one


class MpiTeam(Team):
    """The processes of a communicator that share memory."""

    def __init__(self, communicator: Any) -> None:
        self._communicator = communicator
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()

    def gather(self, message: bytes = b"") -> list[bytes]:
        """Gather with one collective; with a second one where a message is long."""
        return _gathered(self._communicator, message)

    def share(self, size: int) -> list[Array]:
        """Open each other's memory without a name, which is gone with the last process.

        MPI has shared memory too, but as files in /dev/shm, which is small in containers and where
        they stay when a job is killed. Descriptors do not travel through MPI, but a process may
        open those of another one of the same user in /proc.
        """
        own = shared_memory(size)
        opened: list[int] = []
        try:
            place = _PLACE.pack(os.getpid(), own, os.fstat(own).st_ino)
            places = [_PLACE.unpack(one) for one in self.gather(place)]
            problem = ""
            for rank, (process, descriptor, inode) in enumerate(places):
                try:
                    opened.append(os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR))
                    if os.fstat(opened[-1]).st_ino != inode:
                        raise OSError(0, "it is another one's")
                except OSError as error:
                    problem = f"workers {self.rank} and {rank} share no memory: {error.strerror}."
            # Also: nobody closes its own before all have opened it.
            problems = [one.decode() for one in self.gather(problem.encode())]
            if any(problems):
                raise WorkerError(
                    next(filter(None, problems)),
                    fix="start the workers of a machine as one user, in one container",
                )
            return [mapped(one) for one in opened]
        finally:
            for one in (own, *opened):
                os.close(one)


class MpiLeaders(Leaders):
    """The first process of each machine."""

    def __init__(self, communicator: Any) -> None:
        self._communicator = communicator
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()

    def gather(self, message: bytes = b"") -> list[bytes]:
        """Gather, as in a node."""
        return _gathered(self._communicator, message)

    def exchange(
        self, outgoing: Mapping[int, Sequence[Array]], incoming: Mapping[int, Sequence[Array]]
    ) -> None:
        """Start all receives and sends, and wait for them."""
        mpi = _mpi()
        try:
            requests = [
                self._communicator.Irecv([one.view(np.uint8), mpi.BYTE], rank)
                for rank, arrays in incoming.items()
                for one in arrays
            ]
            requests += [
                self._communicator.Isend([one.view(np.uint8), mpi.BYTE], rank)
                for rank, arrays in outgoing.items()
                for one in arrays
            ]
            mpi.Request.Waitall(requests)
        except mpi.Exception as problem:
            raise PeerLostError(f"MPI: {problem}.") from problem


def join(nodes: Sequence[int] | None = None) -> Team:
    """Give the team of the processes that `mpiexec` has started; without it, this one is alone.

    Ranks that share memory are a node. `nodes` gives the node of every rank instead: it can only
    split machines. A process that ends without having closed its team ends all others.

    Raises `WorkerError` without mpi4py, and where `mpiexec` belongs to another MPI than mpi4py.
    """
    world = _mpi().COMM_WORLD
    if world.Get_size() == 1:
        _check_alone()
        return Alone()
    rank = world.Get_rank()
    leave = _end_together(rank)
    if nodes is None:
        within = world.Split_type(_mpi().COMM_TYPE_SHARED, rank)
    else:
        within = world.Split(nodes[rank], rank)
    _share_cores(within)
    _unlink_files(within)
    node = _Closing(within, leave)
    first = node.gather(str(rank).encode())[0]
    firsts = [int(one) for one in _gathered(world, first)]
    order = sorted(set(firsts))
    if len(order) == 1:
        return node
    members = [[rank for rank, head in enumerate(firsts) if head == one] for one in order]
    between = world.Split(0 if node.rank == 0 else _mpi().UNDEFINED, rank)
    leaders = MpiLeaders(between) if node.rank == 0 else None
    return Nodes(node, leaders, members, order.index(int(first)))


class _Closing(MpiTeam):
    """A team at whose end this process may end without the others."""

    def __init__(self, communicator: Any, leave: _Leave) -> None:
        super().__init__(communicator)
        self._leave = leave

    def close(self) -> None:
        """End well."""
        self._leave.well = True


class _Leave:
    """What happens at the end of this process."""

    def __init__(self, rank: int) -> None:
        self.rank, self.well = rank, False
        self.held: io.StringIO | None = None
        self.errors = sys.stderr

    def __call__(self) -> None:
        """End all others, unless this one ended well: MPI would make it wait for them.

        Errors of ranks above 0 are shown late: where all have the same one, rank 0 has shown it.
        """
        if not self.well and self.rank:
            time.sleep(_LATE)
        if self.held is not None and self.held.getvalue():
            print(f"worker {self.rank}: {self.held.getvalue()}", end="", file=self.errors)
        for stream in (sys.stdout, self.errors):
            stream.flush()
        if not self.well:
            _mpi().COMM_WORLD.Abort(1)


def _end_together(rank: int) -> _Leave:
    """Have this process end all; keep what ranks above 0 print from where rank 0 prints."""
    leave = _Leave(rank)
    if rank:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open to the end
        sys.stderr = leave.held = io.StringIO()
    atexit.register(leave)
    return leave


def _gathered(communicator: Any, message: bytes) -> list[bytes]:
    size = communicator.Get_size()
    try:
        words = np.zeros((size, _LENGTH.size + _SHORT), np.uint8)
        own = np.zeros(words.shape[1], np.uint8)
        start = _LENGTH.pack(len(message)) + message[:_SHORT]
        own[: len(start)] = np.frombuffer(start, np.uint8)
        communicator.Allgather(own, words)
        lengths = [_LENGTH.unpack_from(word)[0] for word in words]
        if max(lengths) <= _SHORT:
            return [
                word[_LENGTH.size : _LENGTH.size + length].tobytes()
                for word, length in zip(words, lengths)
            ]
        whole = np.empty(sum(lengths), np.uint8)
        communicator.Allgatherv(np.frombuffer(message, np.uint8), [whole, lengths])
    except _mpi().Exception as problem:
        raise PeerLostError(f"MPI: {problem}.") from problem
    ends = np.cumsum(lengths)
    return [whole[end - length : end].tobytes() for end, length in zip(ends, lengths)]


def _unlink_files(within: Any) -> None:
    """Take the names of MPICH's files in /dev/shm away, once all have mapped them.

    It would do so at its own end, which a job that is killed never sees. What this process has
    mapped is surely its own.
    """
    found = set()
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8") as maps:
        found = {line.split(maxsplit=5)[-1].strip() for line in maps if _FILES in line}
    _gathered(within, b"")
    for path in found:
        with suppress(OSError):  # of another rank that was faster, or without a name already
            os.unlink(path)


def _share_cores(within: Any) -> None:
    """Give each worker its share of the cores that it may use, unless the user said how many."""
    own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    same = _gathered(within, repr(own).encode()).count(repr(own).encode())
    if config.where("threads") == BY_DEFAULT and own:
        config.set(threads=max(1, len(own) // same))


def _mpi() -> Any:
    """Import mpi4py, which starts MPI."""
    try:
        import_module("mpi4py").rc.thread_level = "funneled"
        return import_module("mpi4py.MPI")
    except (ImportError, RuntimeError) as problem:
        if _told(_RANKS):
            sys.exit(1)  # rank 0 says it
        raise WorkerError(f"--engine mpi: mpi4py is not usable: {problem}.", fix=INSTALL) from None


def _check_alone() -> None:
    """Raise `WorkerError` if `mpiexec` has started several processes, each of which is alone."""
    size = _told(_SIZES)
    if size > 1:
        version = _mpi().Get_library_version().split("\n")[0].strip("\0")
        raise WorkerError(
            f"--engine mpi: mpiexec has started {size} processes, but they do not see each other: "
            f"it belongs to another MPI than mpi4py, which uses {version}.",
            fix=f"start with the mpiexec of that MPI: {os.path.dirname(sys.executable)}/mpiexec",
        )


def _told(names: Sequence[str]) -> int:
    """Give what the launcher wrote into the environment; 0 without one."""
    return next((int(os.environ[n]) for n in names if os.environ.get(n, "").isdigit()), 0)
