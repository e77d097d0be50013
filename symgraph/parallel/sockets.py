"""Leaders of nodes that exchange numbers by TCP; how they meet is in `meeting`.

What is sent is not encrypted: a network that others can read or write is not for training.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from symgraph.errors import WorkerError
from symgraph.graph.op import Array
from symgraph.parallel.team import LONG, Leaders, SocketTeam


class SocketLeaders(Leaders, SocketTeam):
    """Leaders connected by TCP, each to each.

    A process that dies, and a machine that is switched off, are seen; for `patience` seconds
    without a byte from another one, `WorkerError` is raised.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        peers: Mapping[int, socket.socket],
        report: Callable[[str], None] | None = None,
        patience: float = 600.0,
    ) -> None:
        super().__init__(rank, size, peers)
        self._report, self._patience = report, patience
        self._heard = time.monotonic()

    def gather(self, message: bytes = b"") -> list[bytes]:
        """Send to all, then read from all."""
        self._heard = time.monotonic()
        return super().gather(message)

    def exchange(
        self, outgoing: Mapping[int, Sequence[Array]], incoming: Mapping[int, Sequence[Array]]
    ) -> None:
        """Send and receive whatever is possible, until all is done."""
        self._heard = time.monotonic()
        sending = {rank: _bytes(arrays) for rank, arrays in outgoing.items()}
        receiving = {rank: _bytes(arrays) for rank, arrays in incoming.items()}
        with selectors.PollSelector() as selector:
            for rank, peer in self._peers.items():
                events = _events(sending.get(rank), receiving.get(rank))
                if events:
                    selector.register(peer, events, rank)
            while selector.get_map():
                ready = selector.select(LONG)
                for key, events in ready:
                    self._move(key.data, events, sending, receiving)
                    left = _events(sending.get(key.data), receiving.get(key.data))
                    if not left:
                        selector.unregister(key.fileobj)
                    elif left != key.events:
                        selector.modify(key.fileobj, left, key.data)
                if not ready:
                    self._tell(waiting=next(iter(selector.get_map().values())).data)
                else:
                    self._heard = time.monotonic()

    def _move(
        self,
        rank: int,
        events: int,
        sending: Mapping[int, list[memoryview]],
        receiving: Mapping[int, list[memoryview]],
    ) -> None:
        peer = self._peers[rank]
        try:
            if events & selectors.EVENT_READ:
                count = peer.recv_into(receiving[rank][-1])
                if not count:
                    raise self.lost(rank)
                _advance(receiving[rank], count)
            if events & selectors.EVENT_WRITE:
                _advance(sending[rank], peer.send(sending[rank][-1]))
        except OSError as problem:
            raise self.lost(rank) from problem

    def _tell(self, **message: object) -> None:
        """Tell the own launcher that this worker itself waits; give up after the patience."""
        waited = time.monotonic() - self._heard
        text = f"waiting for node {message.get('waiting')} for {waited:.0f} s"
        if waited > self._patience:
            raise WorkerError(f"leaders: {text}: it has not answered.")
        if self._report is not None:
            self._report(text)


def _bytes(arrays: Sequence[Array]) -> list[memoryview]:
    """Give arrays as bytes, the last one first, since what is done is dropped from the end."""
    return [memoryview(one.view(np.uint8)) for one in reversed(arrays) if one.size]


def _advance(left: list[memoryview], count: int) -> None:
    if count == len(left[-1]):
        left.pop()
    else:
        left[-1] = left[-1][count:]


def _events(sending: list[memoryview] | None, receiving: list[memoryview] | None) -> int:
    return (selectors.EVENT_WRITE if sending else 0) | (selectors.EVENT_READ if receiving else 0)
