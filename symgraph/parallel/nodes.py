"""A team on several machines: nodes within which memory is shared, and leaders between them.

Every engine makes the same two parts, the node's team and that of the leaders, and what lies above
does not see which engine it was. Words go from all to the leader, between leaders, and back;
numbers go the same way, see `symgraph.parallel.between`.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

from symgraph.errors import WorkerError
from symgraph.graph.op import Array
from symgraph.parallel.meeting import meet
from symgraph.parallel.sockets import SocketLeaders
from symgraph.parallel.team import Leaders, SocketTeam, Team
from symgraph.parallel.team import join as join_node

PLACE = "_SYMGRAPH_NODES"  # in a worker's environment: which node it is on, how leaders meet

_LENGTH = struct.Struct("<I")


class Nodes(Team):
    """Workers of several nodes; `nodes` are the ranks of each, `number` is the own one."""

    def __init__(
        self, node: Team, leaders: Leaders | None, nodes: Sequence[Sequence[int]], number: int
    ) -> None:
        self._node, self._leaders, self._nodes = node, leaders, [list(one) for one in nodes]
        self.rank = self._nodes[number][node.rank]
        self.size = sum(len(ranks) for ranks in self._nodes)
        if isinstance(node, SocketTeam) and isinstance(leaders, SocketLeaders):
            node.goes_with(leaders)

    @property
    def node(self) -> Team:
        """The workers of this machine."""
        return self._node

    @property
    def nodes(self) -> Sequence[Sequence[int]]:
        """The ranks of each node."""
        return self._nodes

    @property
    def leaders(self) -> Leaders | None:
        """The first workers of all machines, where this is one of them."""
        return self._leaders

    def gather(self, message: bytes = b"") -> list[bytes]:
        """Gather in the node, between leaders, and hand what was found to the node."""
        found, whole = self._node.gather(message), b""
        if self._leaders is not None:
            whole = _packed(self._leaders.gather(_packed(found)))
        whole = self._node.gather(whole)[0]
        messages = [b""] * self.size
        for ranks, words in zip(self._nodes, _unpacked(whole), strict=True):
            for rank, word in zip(ranks, _unpacked(words), strict=True):
                messages[rank] = word
        return messages

    def share(self, size: int) -> list[Array]:
        """Raise `WorkerError`: only the workers of a node share memory, see `node`."""
        raise WorkerError(f"{len(self._nodes)} nodes share no memory.", fix="team.node.share")

    def look(self) -> None:
        """Look at the node, and at leaders."""
        self._node.look()
        if self._leaders is not None:
            self._leaders.look()

    def report(self, text: str) -> None:
        """Tell the launcher of this node."""
        self._node.report(text)

    def close(self) -> None:
        """Leave both."""
        if self._leaders is not None:
            self._leaders.close()
        self._node.close()


def join() -> Team:
    """Give the team that this process was started for; without a launcher it is alone.

    Raises `WorkerError` where the leader of a node does not reach those of others.

    >>> join().size
    1
    """
    place = os.environ.pop(PLACE, "")
    node = join_node()
    if not place:
        return node
    known: dict[str, Any] = json.loads(place)
    leaders = None
    if node.rank == 0:
        number, patience = known["number"], known["patience"]
        addresses = [(str(host), int(port)) for host, port in known["addresses"]]
        with socket.socket(fileno=known["listener"]) as listener:
            peers = meet(number, addresses, bytes.fromhex(known["token"]), listener, patience)
        control = node.report if isinstance(node, SocketTeam) else None
        leaders = SocketLeaders(number, len(addresses), peers, control, patience)
    return Nodes(node, leaders, known["nodes"], known["number"])


def _packed(messages: Sequence[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(one)) + one for one in messages)


def _unpacked(whole: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(whole):
        (length,) = _LENGTH.unpack_from(whole, at)
        at += _LENGTH.size + length
        found.append(whole[at - length : at])
    return found
