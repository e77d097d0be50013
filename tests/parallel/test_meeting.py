"""Leaders meet over real sockets, whoever else knocks: with garbage, in silence, or without end."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from symgraph.errors import ArgumentError, WorkerError
from symgraph.parallel import meeting
from symgraph.parallel.meeting import listen, meet, own_address
from tests.parallel.nodes import TOKEN, run_all

HELLO = b"symgraph" + b"\1\0\0\0" + bytes(16)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by a reset


@pytest.fixture
def listeners(opened: list[Any]) -> list[socket.socket]:
    """Open the ports of two leaders."""
    found = [listen(), listen()]
    opened.extend(found)
    return found


def met(listeners: list[socket.socket], opened: list[Any], seconds: float = 30.0) -> float:
    """Have the leaders meet, and talk once; give the seconds that it took."""
    addresses = [one.getsockname()[:2] for one in listeners]
    began = time.monotonic()
    found: Any = run_all(
        [
            lambda rank=rank: meet(rank, addresses, TOKEN, listeners[rank], seconds)
            for rank in range(len(listeners))
        ]
    )
    for rank, one in enumerate(found):
        assert isinstance(one, dict), one
        assert sorted(one) == [other for other in range(len(listeners)) if other != rank]
    opened.extend(peer for one in found for peer in one.values())
    found[0][1].sendall(b"word")
    assert found[1][0].recv(4) == b"word"
    return time.monotonic() - began


def test_another_token_is_refused(listeners: list[socket.socket]) -> None:
    addresses = [one.getsockname()[:2] for one in listeners]
    first, second = run_all(
        [
            lambda: meet(0, addresses, TOKEN, listeners[0], 2.0),
            lambda: meet(1, addresses, b"another", listeners[1], 2.0),
        ]
    )
    assert "turned node 1 away: another token" in str(second)
    assert "nodes [1] have not come in time" in str(first)


def silent(peer: socket.socket) -> None:
    """Say nothing."""


def slow(peer: socket.socket) -> None:
    """Say what a leader says, a byte now and then, and never all of it."""
    with contextlib.suppress(OSError):
        for number in range(len(HELLO) - 1):
            peer.sendall(HELLO[number : number + 1])
            time.sleep(0.05)


def says(words: bytes) -> Callable[[socket.socket], None]:
    """Say something, whether anybody listens or not."""

    def say(peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            peer.sendall(words)

    return say


def resets(peer: socket.socket) -> None:
    """Go as if the machine were switched off."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.close()


STRANGERS: dict[str, Callable[[socket.socket], None]] = {
    "silent": silent,
    "slow": slow,
    "gone": socket.socket.close,
    "reset": resets,
    "a browser": says(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "garbage": says(bytes(range(256)) * 4096),
    "half a hello": says(HELLO[:-1]),
    "no proof": says(HELLO + bytes(32)),
    "huge numbers": says(b"symgraph" + b"\xff" * 4 + bytes(16) + b"\xff" * (1 << 20)),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_strangers_do_not_keep_a_leader_away(
    kind: str, listeners: list[socket.socket], opened: list[Any]
) -> None:
    """More of them than may be heard at once, each of whom may take ten seconds."""
    place = listeners[0].getsockname()[:2]
    strangers = [socket.create_connection(place) for _ in range(meeting.GUESTS + 20)]
    opened.extend(strangers)
    for one in strangers:
        threading.Thread(target=STRANGERS[kind], args=(one,), daemon=True).start()
    assert met(listeners, opened) < 5.0


def test_strangers_come_while_leaders_meet(
    listeners: list[socket.socket], opened: list[Any]
) -> None:
    listeners.append(listen())
    opened.append(listeners[2])
    over = threading.Event()

    def come(listener: socket.socket) -> None:
        kinds = list(STRANGERS.values())
        place = listener.getsockname()[:2]
        while not over.is_set():
            with contextlib.suppress(OSError):
                for kind in kinds:
                    one = socket.create_connection(place, timeout=1.0)
                    opened.append(one)
                    if kind is not slow:
                        kind(one)
            time.sleep(0.01)

    crowds = [threading.Thread(target=come, args=(one,), daemon=True) for one in listeners]
    for one in crowds:
        one.start()
    time.sleep(0.1)
    assert met(listeners, opened) < 10.0
    over.set()
    for one in crowds:
        one.join(10)


def test_who_is_silent_is_turned_away_in_time(
    monkeypatch: pytest.MonkeyPatch, listeners: list[socket.socket], opened: list[Any]
) -> None:
    monkeypatch.setattr(meeting, "HELLO", 0.2)
    place = listeners[0].getsockname()[:2]
    stranger = socket.create_connection(place, timeout=5.0)
    opened.append(stranger)

    def seconds() -> float:
        began = time.monotonic()
        assert stranger.recv(1) == b""
        return time.monotonic() - began

    met, waited = run_all([lambda: meet(0, [place, place], TOKEN, listeners[0], 2.0), seconds])
    assert isinstance(met, WorkerError)
    assert isinstance(waited, float)
    assert 0.1 < waited < 1.9


def test_a_leader_tries_again_where_strangers_took_its_place(
    listeners: list[socket.socket], opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "GUESTS", 0)  # whoever comes goes at once
    addresses = [one.getsockname()[:2] for one in listeners]
    tries = []
    connect = socket.create_connection

    def connected(*arguments: Any, **options: Any) -> socket.socket:
        tries.append(time.monotonic())
        if len(tries) == 3:
            monkeypatch.setattr(meeting, "GUESTS", 1)
        return connect(*arguments, **options)

    monkeypatch.setattr(socket, "create_connection", connected)
    met(listeners, opened)
    assert len(tries) == 3
    monkeypatch.setattr(meeting, "GUESTS", 0)
    found = run_all(
        [lambda rank=rank: meet(rank, addresses, TOKEN, listeners[rank], 3.0) for rank in (0, 1)]
    )
    # Closed or reset, as the hello had been read or not.
    assert re.search(r"turned node 1 away: (it closed the connection|.*reset)", str(found[1]))


def test_the_token_does_not_travel(listeners: list[socket.socket]) -> None:
    server, other = listeners
    seen: list[bytes] = []

    def eavesdrop() -> None:
        peer, _ = server.accept()
        seen.append(peer.recv(4096))
        peer.sendall(bytes(48))  # a proof that is none
        seen.append(peer.recv(4096))
        peer.close()

    def connect() -> None:
        meet(1, [server.getsockname()[:2], ("", 0)], TOKEN, other, 5.0)

    _, problem = run_all([eavesdrop, connect])
    assert isinstance(problem, WorkerError)
    assert TOKEN not in b"".join(seen)
    assert len(seen[0]) == 28
    assert seen[1] == b""


def test_a_leader_that_is_not_there_is_named() -> None:
    gone = listen()
    address = gone.getsockname()[:2]
    gone.close()
    with listen() as own, pytest.raises(WorkerError, match=r"node 1 does not reach node 0 at 127."):
        meet(1, [address, ("", 0)], TOKEN, own, 5.0)


def test_ports_are_on_the_loopback_unless_told_otherwise() -> None:
    with listen() as server:
        assert server.getsockname()[0] == "127.0.0.1"
    for wrong in ("eth0", "0.0.0.0", "10.0.0.1/8"):
        with pytest.raises(ArgumentError, match="--interface"):
            own_address(wrong)
