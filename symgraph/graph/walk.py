"""Every walk over values, in one place: iterative and memoised, so that depth is no limit.

Nothing else in the package may recurse over `.inputs`; a test of the layers forbids it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from symgraph.errors import PassError
from symgraph.graph.node import Value, add_origins, make
from symgraph.graph.op import Op
from symgraph.graph.origin import inherit


def postorder(roots: Iterable[Value], operands: Callable[[Value], Iterable[Value]]) -> list[Value]:
    """List everything reachable through `operands`, operands first, each value once.

    The order is always the same for the same graph. A cycle (possible only when `operands` is not
    the values' own) raises `PassError`.
    """
    order: list[Value] = []
    seen: set[Value] = set()
    open_: set[Value] = set()
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(operands(root)))]
        open_.add(root)
        while stack:
            node, rest = stack[-1]
            for operand in rest:
                if operand not in seen:
                    seen.add(operand)
                    open_.add(operand)
                    stack.append((operand, iter(operands(operand))))
                    break
                if operand in open_:
                    raise PassError(
                        f"graph: a replacement makes `{operand.label}` depend on itself.",
                        details=[operand.describe()],
                    )
            else:
                order.append(node)
                open_.discard(node)
                stack.pop()
    return order


def topological(outputs: Iterable[Value], stop: Iterable[Value] = ()) -> list[Value]:
    """List all values that the outputs depend on, operands first, in a stable order; values in
    `stop` are listed but not entered.
    """
    stopped = set(stop)
    if not stopped:
        return postorder(outputs, lambda node: node.inputs)
    return postorder(outputs, lambda node: () if node in stopped else node.inputs)


def leaves(outputs: Iterable[Value]) -> list[Value]:
    """List the leaves (inputs, shared variables, constants) that the outputs depend on."""
    return [node for node in topological(outputs) if not node.inputs]


def depends_on(outputs: Iterable[Value], sources: Iterable[Value]) -> set[Value]:
    """Give every value between the sources and the outputs, both included where connected."""
    wanted = set(sources)
    reached: set[Value] = set()
    for node in topological(outputs):
        if node in wanted or any(operand in reached for operand in node.inputs):
            reached.add(node)
    return reached


def rebuild(
    outputs: Iterable[Value],
    replace: Mapping[Value, Value],
    change_op: Callable[[Op], Op] | None = None,
) -> dict[Value, Value]:
    """Rebuild all values with some replaced: one memoised bottom-up sweep (substitution).

    Returns old -> new for every value visited. Replacements are taken as they are, a node whose
    operands are unchanged stays the same object, and a new node inherits the source lines of the
    old one. `change_op` may change operations, e.g. the sizes in them.
    """
    new: dict[Value, Value] = {}
    for node in topological(outputs, stop=replace):
        if node in replace:
            new[node] = replace[node]
            add_origins(replace[node], node.origins)
        else:
            op = node.op if change_op is None or node.op.leaf else change_op(node.op)
            new[node] = _remake(node, op, tuple(new[operand] for operand in node.inputs))
    return new


def rewrite(outputs: Sequence[Value], replace: Mapping[Value, Value]) -> dict[Value, Value]:
    """Rewrite by simultaneous replacements, which may mention each other: one sweep.

    Inside the replacement of `old`, values of the graph mean their rewritten selves, except `old`,
    which means itself with rewritten operands; so `{y: cast(y)}` wraps `y`. Returns old -> new.
    """
    graph = set(topological(outputs))
    parts = {old: _frontier(new, graph) for old, new in replace.items() if old in graph}

    def operands(node: Value) -> Iterable[Value]:
        if node not in parts:
            return node.inputs
        _fresh, edge = parts[node]
        others = [value for value in edge if value is not node]
        return [*others, *node.inputs] if node in edge else others

    done: dict[Value, Value] = {}
    for node in postorder(outputs, operands):
        if node not in parts:
            done[node] = _remake(node, node.op, tuple(done[operand] for operand in node.inputs))
            continue
        fresh, edge = parts[node]
        local = {value: done[value] for value in edge if value is not node}
        if node in edge:
            local[node] = _remake(node, node.op, tuple(done[operand] for operand in node.inputs))
        for value in fresh:
            with inherit(node.origins):
                local[value] = _remake(value, value.op, tuple(local[v] for v in value.inputs))
        done[node] = local[replace[node]]
        for value in fresh:  # made by a pass, but made for the user's line
            add_origins(local[value], node.origins, first=True)
        add_origins(done[node], node.origins)
    return done


def _frontier(root: Value, graph: set[Value]) -> tuple[list[Value], set[Value]]:
    """Split what a replacement is made of: new values in order, and the old ones they start at."""
    order = postorder([root], lambda node: () if node in graph else node.inputs)
    return [node for node in order if node not in graph], {n for n in order if n in graph}


def _remake(node: Value, op: Op, operands: tuple[Value, ...]) -> Value:
    if op is node.op and all(a is b for a, b in zip(operands, node.inputs)):
        return node
    with inherit(node.origins):
        return make(op, *operands)
