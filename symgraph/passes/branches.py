"""What only one branch needs is computed in that branch.

`ifelse(c, a, b)` is a branch that is given `a` and `b`; here everything that leads to one of them
alone moves inside.
"""

from __future__ import annotations

from symgraph.graph.body import Body, like, literals
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Item, item
from symgraph.graph.node import Value, make
from symgraph.graph.walk import rebuild, topological
from symgraph.ops.branch import Branch
from symgraph.passes.manager import graph_pass


@graph_pass(stage="clean", after=["dead_code"])
def branches(graph: Graph) -> dict[Value, Value]:
    """Move into branches what nobody else needs."""
    nodes = [value for value in graph.values if isinstance(value.op, Branch)]
    if not nodes:
        return {}
    users: dict[Value, list[Value]] = {}
    for value in graph.values:
        for operand in value.inputs:
            users.setdefault(operand, []).append(value)
    found: dict[Value, Value] = {}
    for node in nodes:
        owned = _owned(graph, node, users)
        if owned:
            made = _moved(node, set(graph.values) - owned.keys())
            found |= {
                user: item(made, user.op.index) for user in users[node] if isinstance(user.op, Item)
            }
    return found


def _owned(graph: Graph, node: Value, users: dict[Value, list[Value]]) -> dict[Value, int]:
    """Find what only one branch of a node needs, with the number of the branch."""
    op = node.op
    assert isinstance(op, Branch)  # by its caller
    readers: dict[Value, set[int]] = {}
    for number, body in enumerate(op.branches):
        inside = set(body.values)
        for inner, outer in zip(body.inputs, node.inputs[1:]):
            if inner in inside:
                readers.setdefault(outer, set()).add(number)
    roots = set(graph.roots)
    owned: dict[Value, int] = {}
    for value in reversed(graph.values):
        if not value.inputs or value in roots or value is node.inputs[0]:
            continue
        asked: set[int | None] = set()
        for user in users.get(value, ()):
            own = owned.get(user)
            asked |= readers.get(value, set()) if user is node else {own}
        if len(asked) == 1 and None not in asked:
            owned[value] = next(one for one in asked if one is not None)
    return owned


def _moved(node: Value, outside: set[Value]) -> Value:
    """Give a branch whose bodies compute all that is not outside."""
    op = node.op
    assert isinstance(op, Branch)  # by its caller
    results = [body.inlined(node.inputs[1:]) for body in op.branches]
    flat = [one for found in results for one in found]
    known = literals(flat)
    given: dict[Value, Value] = {}
    for value in topological(flat, stop=outside):
        if value in outside and value not in known:
            given[value] = like(value.tensor, value.label)
    done = rebuild(flat, given)
    inputs = tuple(given.values())
    bodies = tuple(Body(inputs, tuple(done[one] for one in found)) for found in results)
    return make(Branch(bodies), node.inputs[0], *given)
