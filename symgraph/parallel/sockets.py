"""Leaders of nodes that reach each other by TCP: how they meet, what they exchange.

Whoever connects must know a token that the driver made for this one training; it never travels,
both sides prove that they know it. What is sent afterwards is not encrypted: a network that others
can read or write is not for training. Sockets are bound to the loopback unless told otherwise.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import selectors
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from symgraph.errors import ArgumentError, WorkerError
from symgraph.graph.op import Array
from symgraph.parallel.team import LONG, Leaders, SocketTeam, lost

LOOPBACK = "127.0.0.1"
HELLO = 10.0  # seconds that a stranger may take to prove that it is none

_MAGIC = b"symgraph"
_NONCE, _PROOF = 16, 32
_RANK = struct.Struct("<I")

Address = tuple[str, int]


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
                    raise lost(rank)
                _advance(receiving[rank], count)
            if events & selectors.EVENT_WRITE:
                _advance(sending[rank], peer.send(sending[rank][-1]))
        except OSError as problem:
            raise lost(rank) from problem

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


# -- meeting ---------------------------------------------------------------------------------------


def own_address(interface: str = LOOPBACK) -> str:
    """Give this machine's address on the network of `interface`, an address of any machine there.

    Raises `ArgumentError` if it is no address, or not of a network of this machine.

    >>> own_address("127.0.0.1")
    '127.0.0.1'
    """
    try:
        known = ipaddress.ip_address(interface)
    except ValueError:
        raise ArgumentError(
            f"--interface {interface!r:.60} is no address.", fix="such as --interface 10.0.0.1"
        ) from None
    if known.is_unspecified:
        raise ArgumentError(
            f"--interface {interface} is every network of this machine: name one.",
            fix="give the address that this machine has on the network of the others",
        )
    try:
        with socket.socket(_family(interface), socket.SOCK_DGRAM) as probe:
            probe.connect((interface, 9))  # sends nothing: it asks for the route
            return str(probe.getsockname()[0])
    except OSError as problem:
        raise ArgumentError(
            f"--interface {interface}: this machine has no way there: {problem.strerror}."
        ) from problem


def listen(interface: str = LOOPBACK) -> socket.socket:
    """Open a port for leaders on this machine's address in the network of `interface`."""
    address = own_address(interface)
    return socket.create_server((address, 0), family=_family(address), backlog=128)


def meet(
    rank: int,
    addresses: Sequence[Address],
    token: bytes,
    listener: socket.socket,
    seconds: float,
) -> dict[int, socket.socket]:
    """Connect to the leaders of lower ranks, and let those of higher ranks connect.

    Strangers are turned away, however many come. Raises `WorkerError` when a leader cannot be
    reached, has another token, or has not come after so many seconds.
    """
    peers: dict[int, socket.socket] = {}
    deadline = time.monotonic() + seconds
    try:
        for other in range(rank):
            peers[other] = _connected(rank, other, addresses[other], token, deadline)
        while len(peers) < len(addresses) - 1:
            other, peer = _accepted(rank, len(addresses), token, listener, deadline, set(peers))
            peers[other] = peer
    except BaseException:
        for one in peers.values():
            one.close()
        raise
    for one in peers.values():
        _tune(one)
    return peers


def _connected(
    rank: int, other: int, address: Address, token: bytes, deadline: float
) -> socket.socket:
    host, port = address
    try:
        peer = socket.create_connection(address, timeout=max(deadline - time.monotonic(), 0.1))
    except OSError as problem:
        raise WorkerError(
            f"node {rank} does not reach node {other} at {host}:{port}: "
            f"{problem.strerror or problem}.",
            fix="--interface ADDRESS with an address in the network that the machines share",
        ) from problem
    try:
        nonce = secrets.token_bytes(_NONCE)
        peer.sendall(_MAGIC + _RANK.pack(rank) + nonce)
        theirs = _exactly(peer, _NONCE + _PROOF, deadline)
        words = _RANK.pack(rank) + nonce + theirs[:_NONCE]
        if not hmac.compare_digest(theirs[_NONCE:], _proof(token, b"accept", words)):
            raise ConnectionError("another token")
        peer.sendall(_proof(token, b"connect", words))
        _exactly(peer, 1, deadline)
    except OSError as problem:
        peer.close()
        raise WorkerError(
            f"node {other} at {host}:{port} turned node {rank} away: {problem}."
        ) from problem
    return peer


def _accepted(
    rank: int, size: int, token: bytes, listener: socket.socket, deadline: float, known: set[int]
) -> tuple[int, socket.socket]:
    while True:
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            listener.settimeout(left)
            peer, _ = listener.accept()
        except TimeoutError:
            missing = sorted(set(range(rank + 1, size)) - known)
            raise WorkerError(f"node {rank}: nodes {missing} have not come in time.") from None
        try:
            other = _checked(peer, token, min(deadline, time.monotonic() + HELLO))
            if rank < other < size and other not in known:
                peer.sendall(b"\1")
                return other, peer
        except OSError:
            pass  # a stranger, or one that went away
        peer.close()


def _checked(peer: socket.socket, token: bytes, deadline: float) -> int:
    """Give the rank that connects, once it has shown that it knows the token."""
    hello = _exactly(peer, len(_MAGIC) + _RANK.size + _NONCE, deadline)
    if not hello.startswith(_MAGIC):
        raise ConnectionError("another protocol")
    own = secrets.token_bytes(_NONCE)
    words = hello[len(_MAGIC) :] + own
    peer.sendall(own + _proof(token, b"accept", words))
    theirs = _exactly(peer, _PROOF, deadline)
    if not hmac.compare_digest(theirs, _proof(token, b"connect", words)):
        raise ConnectionError("another token")
    (other,) = _RANK.unpack_from(words)
    return int(other)


def _proof(token: bytes, role: bytes, words: bytes) -> bytes:
    return hmac.digest(token, role + words, "sha256")


def _exactly(peer: socket.socket, size: int, deadline: float) -> bytes:
    """Read so many bytes; however slowly they come, not after the deadline."""
    found = b""
    while len(found) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        peer.settimeout(left)
        more = peer.recv(size - len(found))
        if not more:
            raise ConnectionError("it closed the connection")
        found += more
    return found


def _tune(peer: socket.socket) -> None:
    """Send small messages at once; notice a machine that is gone within half a minute."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 30_000),
    ):  # fmt: skip
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
