"""Every walk over values, in one place: iterative and memoised, so that depth is no limit.

Nothing else in the package may recurse over `.inputs`; a test of the layers forbids it.
"""

from __future__ import annotations

from collections import ChainMap
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
    order = topological(outputs)
    graph = set(order)
    changes = {old: replace[old] for old in order if replace.get(old, old) is not old}
    owners, users = _fresh_parts(changes, graph)
    wraps = {old: _between(old, new, users) for old, new in changes.items()}

    def operands(node: Value) -> Iterable[Value]:
        if node not in changes:
            return node.inputs
        inner = wraps[node]
        if not inner:
            return (changes[node],)
        own = {node, *inner}
        return [*node.inputs, *(v for part in inner for v in part.inputs if v not in own)]

    done: dict[Value, Value] = {}
    for node in postorder(outputs, operands):
        if node in changes:
            local: dict[Value, Value] = {}
            if wraps[node]:
                local[node] = _remake(node, node.op, tuple(done[v] for v in node.inputs))
            for part in wraps[node]:
                local[part] = _made_for(node, part, ChainMap(local, done))
            new = changes[node]
            done[node] = local[new] if new in local else done[new]
            add_origins(done[node], node.origins)
        elif node in owners:
            done[node] = _made_for(owners[node], node, done)
        else:
            done[node] = _remake(node, node.op, tuple(done[v] for v in node.inputs))
    return done


def sweep(
    outputs: Sequence[Value],
    step: Callable[[Value], Value | None],
    settled: Callable[[], None] = lambda: None,
) -> dict[Value, Value]:
    """Rewrite bottom-up until nothing changes: one memoised sweep.

    `step(value)` sees each value after its operands are final and gives something of the same
    type in its place, or None; what it gives is swept as well. `settled()` is called whenever that
    has come to an end. Returns old -> new for every value visited. A step that leads back to a
    value that it replaced raises `PassError`.
    """
    done: dict[Value, Value] = {}
    became: dict[Value, Value] = {}  # what a value was replaced by, before that is final
    left: set[Value] = set()  # values whose replacement is being swept
    stack = [*reversed(outputs)]
    while stack:
        node = stack[-1]
        if node in done:
            stack.pop()
            continue
        target = became.get(node)
        if target is not None:
            if target in done:
                done[node] = done[target]
                left.discard(node)
                if not left:
                    settled()
            elif node in left:
                raise PassError(
                    f"graph: a replacement of `{node.label}` leads back to it.",
                    details=[node.describe(), target.describe()],
                )
            else:
                left.add(node)
                stack.append(target)
            continue
        waiting = [operand for operand in node.inputs if operand not in done]
        if waiting:
            stack.extend(reversed(waiting))
            continue
        new = _remake(node, node.op, tuple(done[operand] for operand in node.inputs))
        if new is node:
            found = step(node)
            if found is None or found is node:
                done[node] = node
                continue
            new = found
            add_origins(new, node.origins)
        became[node] = new
    return done


def _fresh_parts(
    changes: Mapping[Value, Value], graph: set[Value]
) -> tuple[dict[Value, Value], dict[Value, list[Value]]]:
    """Find what replacements are made of beside the graph: for which old value each was made, and
    which new values use a value.
    """
    owners: dict[Value, Value] = {}
    users: dict[Value, list[Value]] = {}
    for old, new in changes.items():
        for part in postorder([new], lambda v: () if v in graph or v in owners else v.inputs):
            if part in graph or part in owners:
                continue
            owners[part] = old
            for operand in part.inputs:
                users.setdefault(operand, []).append(part)
    return owners, users


def _between(old: Value, new: Value, users: Mapping[Value, list[Value]]) -> list[Value]:
    """List the new values on the way from a replacement down to what it replaces, lowest first:
    in these `old` means itself. Empty unless the replacement mentions it.
    """
    above: set[Value] = set()
    stack = [old]
    while stack:
        for user in users.get(stack.pop(), ()):
            if user not in above:
                above.add(user)
                stack.append(user)
    if new not in above:
        return []
    return postorder([new], lambda v: [operand for operand in v.inputs if operand in above])


def _made_for(old: Value, part: Value, known: Mapping[Value, Value]) -> Value:
    """Rebuild a part of a replacement: made by a pass, but for the user's line."""
    with inherit(old.origins):
        made = _remake(part, part.op, tuple(known[operand] for operand in part.inputs))
    add_origins(made, old.origins, first=True)
    return made


def _remake(node: Value, op: Op, operands: tuple[Value, ...]) -> Value:
    if op is node.op and all(a is b for a, b in zip(operands, node.inputs)):
        return node
    with inherit(node.origins):
        return make(op, *operands)
