"""How leaders of nodes meet by TCP: each connects to those of lower ranks, and lets higher ones in.

Whoever connects must know a token that the driver made for this one training; it never travels,
both sides prove that they know it. Ports are on the loopback unless told otherwise. Strangers may
come in any number and say anything, or nothing: all that they get is a few words, for some seconds,
and all who knock are heard at the same time, so that nobody keeps a leader waiting.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from symgraph.errors import ArgumentError, WorkerError

LOOPBACK = "127.0.0.1"
HELLO = 10.0  # seconds that a stranger may take to prove that it is none
GUESTS = 64  # who may be about to do so; the one that came first goes for one more
TRIES = 5  # of a leader that is turned away without a reason: there were too many strangers

_MAGIC = b"symgraph"
_NONCE, _PROOF = 16, 32
_RANK = struct.Struct("<I")
_HELLO = len(_MAGIC) + _RANK.size + _NONCE
_PAUSE = 0.2  # seconds between two tries

Address = tuple[str, int]


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
        with _Door(rank, len(addresses), token, listener) as door:
            while len(peers) < len(addresses) - 1:
                if time.monotonic() > deadline:
                    missing = sorted(set(range(rank + 1, len(addresses))) - set(peers))
                    raise WorkerError(f"node {rank}: nodes {missing} have not come in time.")
                door.answer(peers, deadline)
    except BaseException:
        for one in peers.values():
            one.close()
        raise
    for one in peers.values():
        _tune(one)
    return peers


# -- who connects ----------------------------------------------------------------------------------


def _connected(
    rank: int, other: int, address: Address, token: bytes, deadline: float
) -> socket.socket:
    host, port = address
    left = TRIES
    while True:
        try:
            peer = socket.create_connection(address, timeout=max(deadline - time.monotonic(), 0.1))
        except OSError as problem:
            raise WorkerError(
                f"node {rank} does not reach node {other} at {host}:{port}: "
                f"{problem.strerror or problem}.",
                fix="--interface ADDRESS with an address in the network that the machines share",
            ) from problem
        try:
            _prove(peer, rank, token, deadline)
            return peer
        except OSError as problem:
            peer.close()
            left -= 1
            if not left or not isinstance(problem, ConnectionError):
                raise WorkerError(
                    f"node {other} at {host}:{port} turned node {rank} away: {problem}."
                ) from problem
        time.sleep(_PAUSE)


def _prove(peer: socket.socket, rank: int, token: bytes, deadline: float) -> None:
    """Say who this is; each side shows the other that it knows the token."""
    nonce = secrets.token_bytes(_NONCE)
    peer.sendall(_MAGIC + _RANK.pack(rank) + nonce)
    theirs = _exactly(peer, _NONCE + _PROOF, deadline)
    words = _RANK.pack(rank) + nonce + theirs[:_NONCE]
    if not hmac.compare_digest(theirs[_NONCE:], _proof(token, b"accept", words)):
        raise PermissionError("another token")
    peer.sendall(_proof(token, b"connect", words))
    _exactly(peer, 1, deadline)


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


# -- who lets in -----------------------------------------------------------------------------------


@dataclass(eq=False)
class _Guest:
    """Somebody who has connected and has still to prove who it is, until `ends`."""

    peer: socket.socket
    ends: float
    words: bytes = b""  # what both sides sign, once it has said its part
    heard: bytes = b""

    def hear(self) -> bool:
        """Take in what has come; tell whether the whole of what is expected is there."""
        expected = _PROOF if self.words else _HELLO
        more = self.peer.recv(expected - len(self.heard))
        if not more:
            raise ConnectionError("it went away")
        self.heard += more
        return len(self.heard) == expected


class _Door:
    """A listening socket, and all who are about to prove that they are leaders."""

    def __init__(self, rank: int, size: int, token: bytes, listener: socket.socket) -> None:
        self._rank, self._size, self._token, self._listener = rank, size, token, listener
        self._guests: list[_Guest] = []  # in the order in which they came
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, None)

    def __enter__(self) -> _Door:
        return self

    def __exit__(self, *error: object) -> None:
        for one in list(self._guests):
            self._turn_away(one)
        self._selector.close()

    def answer(self, peers: dict[int, socket.socket], deadline: float) -> None:
        """Wait for words of anybody, and answer; who turns out to be a leader is put into peers."""
        ends = min([deadline, *(one.ends for one in self._guests)])
        for key, _ in self._selector.select(max(ends - time.monotonic(), 0.0)):
            if key.data is None:
                self._let_in()
            elif key.data in self._guests:  # or it went for one who came
                self._listen_to(key.data, peers)
        for one in [one for one in self._guests if one.ends <= time.monotonic()]:
            self._turn_away(one)

    def _let_in(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:  # it has gone already; or there are too many files, and one goes
            for one in self._guests[:1]:
                self._turn_away(one)
            time.sleep(_PAUSE)
            return
        peer.setblocking(False)
        guest = _Guest(peer, time.monotonic() + HELLO)
        self._guests.append(guest)
        self._selector.register(peer, selectors.EVENT_READ, guest)
        if len(self._guests) > GUESTS:
            self._turn_away(self._guests[0])

    def _listen_to(self, guest: _Guest, peers: dict[int, socket.socket]) -> None:
        try:
            if not guest.hear():
                return
            if not guest.words:
                self._answer_hello(guest)
                return
            other = self._proven(guest)
            if not self._rank < other < self._size or other in peers:
                raise ConnectionError("nobody else is expected")
            guest.peer.sendall(b"\1")
        except OSError:  # a stranger, or one that went away
            self._turn_away(guest)
            return
        self._guests.remove(guest)
        self._selector.unregister(guest.peer)
        guest.peer.setblocking(True)
        peers[other] = guest.peer

    def _answer_hello(self, guest: _Guest) -> None:
        if not guest.heard.startswith(_MAGIC):
            raise ConnectionError("another protocol")
        own = secrets.token_bytes(_NONCE)
        guest.words, guest.heard = guest.heard[len(_MAGIC) :] + own, b""
        guest.peer.sendall(own + _proof(self._token, b"accept", guest.words))

    def _proven(self, guest: _Guest) -> int:
        """Give the rank of a guest, once it has shown that it knows the token."""
        if not hmac.compare_digest(guest.heard, _proof(self._token, b"connect", guest.words)):
            raise ConnectionError("another token")
        (other,) = _RANK.unpack_from(guest.words)
        return int(other)

    def _turn_away(self, guest: _Guest) -> None:
        self._guests.remove(guest)
        with suppress(KeyError, ValueError):
            self._selector.unregister(guest.peer)
        guest.peer.close()


def _proof(token: bytes, role: bytes, words: bytes) -> bytes:
    return hmac.digest(token, role + words, "sha256")


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
