"""The loader's process: `python -m symgraph.data.process SOCKET RING SETUP`, three descriptors.

It makes the batches that it is asked for into the slots that it is told. Started and talked to by
`symgraph.data.remote`, and by nothing else.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

import numpy as np

from symgraph.data.messages import (
    ANSWER,
    BROKEN,
    FAILED,
    FORGET,
    LEFT,
    MADE,
    ORDER,
    PACKET,
    pack_error,
)
from symgraph.data.recipe import Recipe
from symgraph.data.ring import Bytes, Layout
from symgraph.runtime.process import end_with_parent, mapped


class Server:
    """Makes batches in threads and answers as each is done."""

    def __init__(
        self, channel: socket.socket, recipe: Recipe, layout: Layout, memory: Bytes, workers: int
    ) -> None:
        self._channel, self._recipe, self._layout = channel, recipe, layout
        self._memory = memory
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="symgraph-loader")
        self._lock = threading.Lock()
        self._orders: dict[int, Future[None]] = {}

    def run(self) -> None:
        """Do what is asked until nobody is left to ask."""
        while packet := self._channel.recv(PACKET):
            number, slot, epoch, count = ORDER.unpack(packet)
            if count == FORGET:
                self._forget(number)
                continue
            with self._lock:
                self._orders[number] = self._pool.submit(self._make, number, slot, epoch, count)

    def _forget(self, last: int) -> None:
        """Leave out every order up to this number that no thread has begun."""
        with self._lock:
            waiting = [
                number
                for number, order in self._orders.items()
                if number <= last and order.cancel()
            ]
            for number in waiting:
                del self._orders[number]
        for number in waiting:
            self._channel.send(ANSWER.pack(LEFT, number, 0.0))

    def _make(self, number: int, slot: int, epoch: int, count: int) -> None:
        """Make one batch; whatever happens, an answer is sent, or the process ends."""
        try:
            with self._lock:
                self._orders.pop(number, None)
            size = self._layout.slot_size
            part = self._memory[slot * size : (slot + 1) * size]
            images, labels, places = self._layout.parts(part, count)
            answer = b""
            try:
                # A copy of the places: the data set may keep them, and the slot is used again.
                seconds = self._recipe.make(np.array(places), epoch, images, labels)
            except BaseException as error:  # noqa: BLE001  the data set may be the user's own code
                answer = ANSWER.pack(FAILED, number, 0.0) + pack_error(error)
            self._channel.send(answer or ANSWER.pack(MADE, number, seconds))
        except ConnectionError:  # the consumer has ended, and nobody wants an answer
            os._exit(0)
        except BaseException:  # noqa: BLE001  else the trainer would wait for ever
            traceback.print_exc()
            os._exit(1)


def _unpack(descriptor: int) -> tuple[Recipe, Layout, int]:
    """Return what the starting process has written down."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        recipe, layout, workers = pickle.load(file)
    return recipe, layout, workers


def main(arguments: list[str]) -> NoReturn:
    """Serve until the starting process is gone or closes its end."""
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever uses it stops first, and then ends it
        signal.signal(number, signal.SIG_IGN)
    channel_at, ring_at, setup_at = map(int, arguments)
    for descriptor in (channel_at, ring_at, setup_at):
        os.set_inheritable(descriptor, False)
    channel = socket.socket(fileno=channel_at)
    try:
        recipe, layout, workers = _unpack(setup_at)
        memory = mapped(ring_at)
        os.close(ring_at)
        server = Server(channel, recipe, layout, memory, workers)
        with contextlib.suppress(ConnectionError):  # nobody is left to ask
            server.run()
    except BaseException as error:  # noqa: BLE001  raised where it is read
        try:
            channel.send(ANSWER.pack(BROKEN, 0, 0.0) + pack_error(error))
        except OSError:
            traceback.print_exc()
        os._exit(1)
    os._exit(0)  # at once, whatever threads are doing: nothing here is worth keeping


if __name__ == "__main__":
    main(sys.argv[1:])
