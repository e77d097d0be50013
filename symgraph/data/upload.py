"""Batches brought to a device, each while the step before it is computed."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Any

from symgraph.backends.cuda.device import Device
from symgraph.backends.cuda.feeder import Pages, Sent
from symgraph.data.makers import Maker
from symgraph.data.recipe import Arrays, Places
from symgraph.data.remote import LoaderProcess


@dataclass(eq=False)
class _Order:
    """A batch that was asked for; `here` when it was made, `sent` when it is on its way."""

    inner: Any
    here: Arrays = ()
    sent: Sent | None = None


class Uploader:
    """Has another maker make batches, and gives them as arrays of a device.

    When a batch is taken, the one behind it is sent if it is made: it then crosses the bus while
    the device computes on the one that was taken. What a process makes is in pinned memory.
    """

    def __init__(self, maker: Maker, device: Device) -> None:
        self._maker, self._lock = maker, device.lock
        self._orders: deque[_Order] = deque()  # in which they will be taken
        self._leaving: list[Sent] = []  # were taken, and may still be on their way
        self._pages: Pages | None = None
        with self._lock:
            self._feeder = device.feeder()
            if isinstance(maker, LoaderProcess):
                self._pages = self._feeder.pin(*maker.ring.place)

    @property
    def images(self) -> int:
        """How many images were made."""
        return self._maker.images

    @property
    def seconds(self) -> float:
        """How long that took."""
        return self._maker.seconds

    def submit(self, places: Places, epoch: int) -> _Order:
        """Ask for a batch."""
        order = _Order(self._maker.submit(places, epoch))
        self._orders.append(order)
        return order

    def ready(self, order: _Order, seconds: float) -> bool:
        """Wait for a batch to be made, but no longer."""
        return bool(order.here) or self._maker.ready(order.inner, seconds)

    def take(self, order: _Order) -> Arrays:
        """Give a batch, and send the next."""
        sent = self._send(order)
        # The next may fail, and says so when it is taken; this one is here.
        with contextlib.suppress(Exception):
            self._send_next(order)
        with self._lock:
            arrays = sent.hand_over()
        self._orders.remove(order)
        self._leaving = [one for one in (*self._leaving, sent) if not one.arrived()]
        return arrays

    def _send_next(self, order: _Order) -> None:
        """Send the batch behind one, unless it must be waited for."""
        after = self._orders.index(order) + 1
        if after < len(self._orders) and self.ready(self._orders[after], 0.0):
            self._send(self._orders[after])

    def _send(self, order: _Order) -> Sent:
        if not order.here:
            order.here = self._maker.take(order.inner)
        if order.sent is None:
            with self._lock:
                order.sent = self._feeder.send(order.here)
        return order.sent

    def drop(self, order: _Order) -> None:
        """Forget about a batch; if it is on its way, it arrives first: its memory is used again."""
        self._orders.remove(order)
        if order.sent is not None:
            order.sent.wait()
        elif not order.here:
            self._maker.drop(order.inner)

    def close(self) -> None:
        """Wait for what is on its way, let the pages go and stop everything; nothing is ordered."""
        with contextlib.ExitStack() as stack:  # also where the device is lost
            stack.callback(self._maker.close)
            if self._pages is not None:
                stack.callback(self._pages.close)
            for sent in self._leaving:
                sent.wait()
            self._leaving.clear()
