"""What a worker knows of the others: its rank, how to meet them, and memory that all of them see.

Everything that workers tell each other in a step goes through `Team.gather`, and it is little: a
loss, a count, a wish to stop. What is large lies in memory that they share.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from symgraph.errors import ArgumentError, PeerLostError, WorkerError
from symgraph.graph.op import Array
from symgraph.runtime.process import end_with_parent, mapped, shared_memory

PLACE = "_SYMGRAPH_TEAM"  # in a worker's environment: its rank and its sockets
MOST = 1 << 15  # bytes of a message: it fits into a socket, so that nobody waits to send
PART = 1 << 10  # bytes of a message that all of many ranks may send at once
LONG = 10.0  # seconds of waiting for others after which the launcher is told
GLANCE = 0.25  # seconds of waiting for one after which it is looked whether others are there

_LENGTH = struct.Struct("<I")
_joined: list[str] = []  # where this process is, once it knows

T = TypeVar("T")


class Team(ABC):
    """Workers of one training, ranks 0 to size - 1, which all do the same in the same order."""

    rank: int
    size: int

    @abstractmethod
    def gather(self, message: bytes = b"") -> list[bytes]:
        """Give every rank's message to all, in the order of ranks; nobody leaves before all came.

        A message has at most `MOST` bytes. Raises `PeerLostError` when another worker is gone.
        """

    @abstractmethod
    def share(self, size: int) -> list[Array]:
        """Make bytes of memory on every rank that all of them see; give all, by rank."""

    @property
    def node(self) -> Team:
        """Those of this team that share memory, with ranks of their own: mostly all of it."""
        return self

    @property
    def whole(self) -> Team:
        """The team that this is a view of, see `nccl`: mostly itself."""
        return self

    @property
    def nodes(self) -> Sequence[Sequence[int]]:
        """The ranks of each node, in the order of their ranks there; rank 0 is on the first."""
        return [range(self.size)]

    @property
    def leaders(self) -> Leaders | None:
        """The first ranks of all nodes, where this is one of them and there are several nodes."""
        return None

    def look(self) -> None:
        """Raise `PeerLostError` if another worker is known to be gone; nobody is waited for."""
        return

    def report(self, text: str) -> None:
        """Tell the launcher where this worker is, for its words about one that died."""
        return

    def close(self) -> None:
        """Leave; the others see it as an end of this worker."""
        return


class Leaders(Team):
    """The first ranks of several nodes; a node's number is the rank here. No memory is shared."""

    @abstractmethod
    def exchange(
        self, outgoing: Mapping[int, Sequence[Array]], incoming: Mapping[int, Sequence[Array]]
    ) -> None:
        """Send bytes to others and receive theirs into place, all at the same time.

        Arrays are contiguous. What one rank sends to another and what that one expects are as many
        arrays of the same sizes, in the same order. Raises `PeerLostError`.
        """

    def share(self, size: int) -> list[Array]:
        """Raise `WorkerError`: nodes share no memory."""
        raise WorkerError("leaders of nodes share no memory.")


class Alone(Team):
    """The team of a process without others."""

    rank, size = 0, 1

    def gather(self, message: bytes = b"") -> list[bytes]:
        """Give the only message."""
        return [message]

    def share(self, size: int) -> list[Array]:
        """Make memory of this process."""
        return [mapped(shared_memory(size))]


class SocketTeam(Team):
    """Workers of one machine, each connected to each.

    A worker that dies closes its sockets, so that the others see it at once; one that is stopped
    does not, and keeps them waiting. Whoever misses another one shuts its own sockets down, so that
    those who wait for it see it at once as well, and not when its process has ended.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        peers: Mapping[int, socket.socket],
        control: socket.socket | None = None,
    ) -> None:
        self.rank, self.size = rank, size
        self._peers, self._control = dict(sorted(peers.items())), control
        self._beside: SocketTeam | None = None
        for one in self._peers.values():
            one.settimeout(min(GLANCE, LONG))

    def goes_with(self, other: SocketTeam) -> None:
        """Tie two teams of one process together: who leaves one of them leaves the other."""
        self._beside, other._beside = other, self

    def gather(self, message: bytes = b"") -> list[bytes]:
        """Send to all, then read from all: messages are small, so that nobody waits to send."""
        if len(message) > MOST:
            raise ArgumentError(
                f"gather: a message of {len(message)} bytes; at most {MOST} are sent.",
                fix="put what is large into shared memory: team.share",
            )
        whole = _LENGTH.pack(len(message)) + message
        for rank, peer in self._peers.items():
            try:
                peer.sendall(whole)
            except OSError as problem:
                raise self.lost(rank) from problem
        found = []
        for rank in range(self.size):
            if rank == self.rank:
                found.append(message)
                continue
            (length,) = _LENGTH.unpack(self._receive(rank, _LENGTH.size))
            if length > MOST:
                raise WorkerError(
                    f"worker {rank} announces a message of {length} bytes; at most {MOST} are sent."
                )
            found.append(self._receive(rank, length))
        return found

    def _receive(self, rank: int, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            parts += self._waited(rank, partial(self._peers[rank].recv, size - len(parts)))
        return parts

    def _waited(self, rank: int, receive: Callable[[], T | None]) -> T:
        """Receive something from a rank; the launcher is told where that takes long."""
        since, told = time.monotonic(), 0
        while True:
            try:
                found = receive()
                break
            except TimeoutError:
                # Those before it may have what they need of this meeting, and have left.
                self._look(range(rank + 1, self.size))
                if time.monotonic() - since >= LONG * (told + 1):
                    self._tell(waiting=rank)
                    told += 1
            except OSError as problem:
                raise self.lost(rank) from problem
        if told:
            self._tell(came=rank)
        if not found:
            raise self.lost(rank)
        return found

    def look(self) -> None:
        """Look whether somebody's end has come, behind what was sent before it."""
        self._look(range(self.size))

    def _look(self, ranks: range) -> None:
        with selectors.PollSelector() as selector:
            for other, peer in self._peers.items():
                if other in ranks:
                    selector.register(peer, selectors.EVENT_READ, other)
            for key, _ in selector.select(0):
                try:
                    gone = not self._peers[key.data].recv(1, socket.MSG_PEEK)
                except OSError:
                    gone = True
                if gone:
                    raise self.lost(key.data)

    def lost(self, rank: int) -> PeerLostError:
        """Say that another worker is gone; whoever started it knows why. This one goes as well."""
        for team in (self, self._beside):
            for peer in team._peers.values() if team is not None else ():
                with suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
        return PeerLostError(f"worker {rank} is gone.")

    def share(self, size: int) -> list[Array]:
        """Pass descriptors of memory without a name, which is gone with the last process."""
        own = shared_memory(size)
        descriptors = {self.rank: own}
        try:
            for rank, peer in self._peers.items():
                try:
                    socket.send_fds(peer, [b"m"], [own])
                except OSError as problem:
                    raise self.lost(rank) from problem
            for rank, peer in self._peers.items():
                descriptors[rank] = self._descriptor(rank, peer)
            return [mapped(descriptors[rank]) for rank in range(self.size)]
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)

    def _descriptor(self, rank: int, peer: socket.socket) -> int:
        found = self._waited(rank, partial(_with_descriptors, peer))
        if not found[1]:
            raise WorkerError(
                "shared memory: no descriptor is left for that of another worker.",
                fix="ulimit -n 4096",
            )
        return found[1][0]

    def report(self, text: str) -> None:
        """Send a line to the launcher."""
        self._tell(at=text)

    def _tell(self, **message: Any) -> None:
        if self._control is not None:
            # Without a launcher this process is about to end as well: see `end_with_parent`.
            with suppress(OSError):
                self._control.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Close the sockets."""
        for one in (*self._peers.values(), *([self._control] if self._control else [])):
            one.close()


def _with_descriptors(peer: socket.socket) -> tuple[bytes, list[int]] | None:
    message, found, _, _ = socket.recv_fds(peer, 1, 1)
    return (message, found) if message else None


def join() -> Team:
    """Give the team that this process was started for; without a launcher it is alone.

    It can be joined once. Raises `WorkerError` the second time, which would be another team.

    >>> join().size
    1
    """
    place = os.environ.pop(PLACE, "")  # what this process starts is no worker
    if not place:
        if _joined:
            raise WorkerError("join: this process has joined its team already.", fix="keep it")
        return Alone()
    end_with_parent()
    _joined.append(place)
    known = json.loads(place)
    peers = {int(rank): _inherited(number) for rank, number in known["peers"].items()}
    team = SocketTeam(known["rank"], known["size"], peers, _inherited(known["control"]))
    team.report("starting")
    return team


def _inherited(number: int) -> socket.socket:
    """Take a socket over; what this process starts shall not hold it open."""
    made = socket.socket(fileno=number)
    made.set_inheritable(False)
    return made
