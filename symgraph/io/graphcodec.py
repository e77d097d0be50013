"""A graph as a JSON document and arrays, and back: the graph that was built, before any pass.

::

    sizes    the symbolic sizes that anything below refers to (dims/codec.py)
    types    [dtype, size, ...], or {"tuple": [types]} of a node with several results
    shared   [name, dtype, tensor]: the variables; their numbers lie among the tensors
    nodes    [operation, attributes, operands, type, module]: operands first
    bodies   [inputs, outputs]: the graphs inside loops and branches; their nodes stand above too
    modules  where an operation that is not symgraph's own is defined
    inputs, outputs, updates: [variable, node]
    measured [size, node]: sizes that data decide, and what computes their numbers

What must hold for the sizes of a call (guards) is not written: it follows from the operations, and
is stated again when the graph is built again. So are all types, which have to be those in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.config import config
from symgraph.dims import Dim, Size
from symgraph.dims.codec import decode, encode
from symgraph.dims.core import is_anonymous
from symgraph.errors import CheckpointError, PassError, SymgraphError
from symgraph.graph.body import Body
from symgraph.graph.dtypes import ALL
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Constant, Input, Shared, tensor
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array
from symgraph.graph.origin import Origin, inherit, module_of
from symgraph.graph.registry import OPS
from symgraph.graph.types import TensorType, TupleType, Type, tensor_type
from symgraph.io.attributes import decode_attribute, encode_attribute, fits, made
from symgraph.io.boundedjson import Json

KEYS = ("sizes", "types", "shared", "nodes", "bodies", "modules", "inputs", "outputs", "updates")
# what `infer` of an operation may raise for attributes that no function of ours would give it
WRONG = (SymgraphError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def names_of(variables: Sequence[Shared]) -> dict[str, Shared]:
    """Give variables by name; where several have one name, the later ones get a number."""
    found: dict[str, Shared] = {}
    for variable in variables:
        name, number = variable.label, 1
        while name in found:
            number += 1
            name = f"{variable.label}_{number}"
        found[name] = variable
    return found


class Encoder:
    """Collects what a graph is made of: `document` and `tensors`."""

    def __init__(self, graph: Graph) -> None:
        self.tensors: dict[str, Array] = {}
        self._sizes: dict[Dim, int] = {}
        self._types: dict[Type, int] = {}
        self._shared: dict[Shared, int] = {}
        self._nodes: dict[Value, int] = {}
        self._bodies: dict[Body, int] = {}
        self._written: dict[str, list[Any]] = {"nodes": [], "bodies": [], "types": [], "shared": []}
        self._modules: dict[str, str] = {}
        for variable in graph.shared:
            self._variable(variable)
        for value in (*graph.inputs, *graph.values):
            self._node(value)
        self.document: dict[str, Any] = {
            "sizes": encode(list(self._sizes)),
            **self._written,
            "modules": self._modules,
            "inputs": [self._nodes[one] for one in graph.inputs],
            "outputs": [self._nodes[one] for one in graph.outputs],
            "updates": [
                [self._shared[target], self._nodes[new]] for target, new in graph.updates.items()
            ],
        }
        if graph.sizes:  # what has none can be read by versions that know of none
            self.document["measured"] = [
                [self._refer("size", size), self._nodes[count]]
                for size, count in graph.sizes.items()
            ]
            self.document["sizes"] = encode(list(self._sizes))

    def _refer(self, kind: str, value: Any) -> Json:
        if kind == "size":
            return self._sizes.setdefault(value, len(self._sizes))
        if kind == "body":
            return self._body(value)
        if kind == "shared":
            return self._variable(value)
        name = f"constant.{len(self.tensors)}"
        self.tensors[name] = value
        return name

    def _variable(self, variable: Shared) -> int:
        if variable not in self._shared:
            number = self._shared[variable] = len(self._shared)
            name = f"shared.{number}"
            self.tensors[name] = variable.storage.array
            self._written["shared"].append([variable.label, variable.dtype, name])
        return self._shared[variable]

    def _body(self, body: Body) -> int:
        """Write what a body is made of, which stands before the node that has it."""
        if body not in self._bodies:
            if body.sizes:
                raise PassError("save: a graph that is bound to sizes is none to be saved.")
            for value in (*body.inputs, *body.values):
                self._node(value)
            parts = [[self._nodes[one] for one in part] for part in (body.inputs, body.outputs)]
            self._bodies[body] = len(self._bodies)
            self._written["bodies"].append(parts)
        return self._bodies[body]

    def _node(self, value: Value) -> None:
        if value in self._nodes:
            return
        op = value.op
        attributes: dict[str, Json]
        if isinstance(value, Shared):
            attributes = {"variable": self._variable(value)}
        elif isinstance(op, Input):
            shape = encode_attribute(op.shape, self._refer, "a shape")
            attributes = {"label": value.label, "dtype": op.dtype, "shape": shape}
        else:
            attributes = {
                name: encode_attribute(part, self._refer, self._where(value, name))
                for name, part in op.attributes().items()
            }
        if not type(op).__module__.startswith("symgraph."):
            self._modules[op.name] = type(op).__module__
        operands = [self._nodes[one] for one in value.inputs]
        entry = [op.name, attributes, operands, self._type(value.type), module_of(value.origins)]
        self._nodes[value] = len(self._nodes)
        self._written["nodes"].append(entry)

    def _where(self, value: Value, name: str) -> str:
        return f"the attribute {name} of `{value.op.name}` ({value.describe()})"

    def _type(self, type: Type) -> int:
        if type not in self._types:
            if isinstance(type, TupleType):
                written: Any = {"tuple": [self._type(part) for part in type.types]}
            else:
                shape = encode_attribute(type.shape, self._refer, "a shape")
                written = [type.dtype, shape]
            self._types[type] = len(self._types)
            self._written["types"].append(written)
        return self._types[type]


class Decoder:
    """Builds the graph of a document that nobody has checked yet; `path` names it in errors.

    Raises `CheckpointError` for whatever is not as `Encoder` writes it.
    """

    def __init__(
        self, document: Mapping[str, Json], tensors: Mapping[str, Array], path: object
    ) -> None:
        self.path, self.tensors = path, tensors
        self._where = "its graph"
        parts: dict[str, Any] = {key: document.get(key) for key in KEYS}
        for key, part in parts.items():
            if not isinstance(part, dict if key in ("sizes", "modules") else list):
                raise self._refused(f"has no {key}")
        self._modules = parts["modules"]
        try:
            self._sizes = decode(parts["sizes"])
        except WRONG as problem:
            raise self._refused(f"has sizes that cannot be read: {problem}") from None
        self._written_bodies, self._bodies = parts["bodies"], dict[int, Body]()
        self.nodes: list[Value] = []
        self.shared: list[Shared] = []
        for number, one in enumerate(parts["shared"]):
            self.shared.append(self._variable(number, one))
        self._types: list[Type] = []
        for number, one in enumerate(parts["types"]):
            self._where = f"its type {number}"
            self._types.append(self._type(one))
        name = f"<{getattr(path, 'name', path)}>"
        with config(origins=False):  # a line of the program that loads says nothing about a node
            for number, one in enumerate(parts["nodes"]):
                self._where = f"its node {number}"
                self.nodes.append(self._node(one, Origin(name, number)))
        self._where = "its graph"
        measured = self._measured(document.get("measured", []))
        self.graph = self._graph(parts["inputs"], parts["outputs"], parts["updates"], measured)

    def _refused(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path} cannot be read: {self._where} {what}.")

    def _measured(self, written: Any) -> dict[Dim, Value]:
        """Say of sizes that data decide what computes them."""
        found: dict[Dim, Value] = {}
        for pair in written if isinstance(written, list) else [written]:
            if not isinstance(pair, list) or len(pair) != 2:
                raise self._refused(f"has a size that cannot be read: {str(pair)[:60]}")
            size, count = self._found("size", pair[0]), self._places([pair[1]])[0]
            if not isinstance(size, Dim) or not is_anonymous(size) or size in found:
                raise self._refused(f"says twice, or of none, what the size {size!s:.60} is")
            if count.type != TensorType("int64", ()):
                raise self._refused(f"has the size {size!s:.60}, which is no integer")
            found[size] = count
            size.source = count
        return found

    def _graph(
        self, inputs: Json, outputs: Json, updates: Any, measured: Mapping[Dim, Value]
    ) -> Graph:
        new: dict[Shared, Value] = {}
        for pair in updates:
            if not isinstance(pair, list) or len(pair) != 2:
                raise self._refused(f"has an update that cannot be read: {str(pair)[:60]}")
            target: Shared = self._found("shared", pair[0])
            if target in new:
                raise self._refused(f"updates `{target.label}` twice")
            new[target] = self._places([pair[1]])[0]
        given = self._places(inputs)
        if len(set(given)) != len(given) or not all(isinstance(one.op, Input) for one in given):
            raise self._refused("has inputs that are none, or one twice")
        results = self._places(outputs)
        if any(isinstance(one.type, TupleType) for one in (*results, *new.values())):
            raise self._refused("gives a node with several results")
        try:
            graph = Graph(given, results, new, measured)
            graph.verify()
        except SymgraphError as problem:
            raise self._refused(f"is none: {problem.message}") from None
        return graph

    def _type(self, written: Json) -> Type:
        if isinstance(written, dict) and set(written) == {"tuple"}:
            parts = [self._types[one] for one in self._numbers(written["tuple"], len(self._types))]
            single = [part for part in parts if isinstance(part, TensorType)]
            if len(single) == len(parts):
                return TupleType(tuple(single))
        elif isinstance(written, list) and len(written) == 2 and written[0] in ALL:
            return self._tensor_type(written[0], self._decoded(written[1]))
        raise self._refused(f"cannot be read: {str(written)[:60]}")

    def _tensor_type(self, dtype: Any, shape: Any) -> TensorType:
        if fits(shape, tuple[Size, ...]) and isinstance(dtype, str) and dtype in ALL:
            try:
                return tensor_type(dtype, shape)
            except SymgraphError as problem:
                raise self._refused(f"has no shape: {problem.message}") from None
        raise self._refused(f"has the dtype {dtype!r:.40} and the shape {shape!r:.60}")

    def _variable(self, number: int, written: Json) -> Shared:
        self._where = f"its variable {number}"
        if isinstance(written, list) and len(written) == 3 and isinstance(written[0], str):
            label, dtype, name = written[0], written[1], written[2]
            array = self._found("tensor", name)
            if array.dtype.name != dtype or dtype not in ALL:
                raise self._refused(f"is {dtype!r:.40}, its numbers are {array.dtype.name}")
            return Shared(np.array(array, order="C"), typed_label(label))
        raise self._refused(f"cannot be read: {str(written)[:60]}")

    def _node(self, written: Json, origin: Origin) -> Value:
        if not isinstance(written, list) or len(written) != 5:
            raise self._refused(f"cannot be read: {str(written)[:60]}")
        name, attributes, operands, type, module = written
        if not isinstance(name, str) or not isinstance(module, str):
            raise self._refused("has no name, or no module")
        self._where += f" (`{name[:60]}`)"
        if not isinstance(attributes, dict):
            raise self._refused("has no attributes")
        given = self._places(operands)
        wanted = self._types[self._numbers([type], len(self._types))[0]]
        with inherit((origin._replace(module=module),)):
            value = self._made(name, attributes, given)
        if value.type != wanted:
            raise self._refused(f"is {wanted} in the file, its operation infers {value.type}")
        return value

    def _made(self, name: str, attributes: dict[str, Json], operands: list[Value]) -> Value:
        if name in ("shared", "input"):
            if operands:
                raise self._refused("is a leaf and has operands")
            return self._leaf(name, attributes)
        kind = OPS.get(name)
        if kind is None:
            raise self._unknown(name)
        decoded = {key: self._decoded(one) for key, one in attributes.items()}
        op = made(kind, decoded, self._refused)
        if isinstance(op, Constant):
            if not isinstance(op.array, np.ndarray):
                raise self._refused("is a constant without numbers")
            op.array.flags.writeable = False
        try:
            return make(op, *operands)
        except WRONG as problem:
            message = problem.message if isinstance(problem, SymgraphError) else str(problem)
            raise self._refused(f"cannot be built: {type(problem).__name__}: {message}") from None

    def _leaf(self, name: str, attributes: dict[str, Json]) -> Value:
        if name == "shared" and set(attributes) == {"variable"}:
            variable: Value = self._found("shared", attributes["variable"])
            return variable
        if name == "input" and set(attributes) == {"label", "dtype", "shape"}:
            shape = self._decoded(attributes["shape"])
            type = self._tensor_type(attributes["dtype"], shape)
            if isinstance(attributes["label"], str):
                return tensor(typed_label(attributes["label"]), type.shape, type.dtype)
        raise self._refused("is a leaf that cannot be read")

    def _unknown(self, name: str) -> CheckpointError:
        module = self._modules.get(name)
        return CheckpointError(
            f"{self.path} cannot be read: it needs the operation `{name[:60]}`, "
            "which is not registered here.",
            fix=f"import the module {module[:200]}, which defines it, before sg.load"
            if isinstance(module, str)
            else "install the version of symgraph that wrote the file, or a newer one",
        )

    # -- what has a number -------------------------------------------------------------------------

    def _decoded(self, data: Json) -> Any:
        return decode_attribute(data, self._found, self._refused)

    def _found(self, kind: str, data: Any) -> Any:
        if kind == "tensor":
            if not isinstance(data, str) or data not in self.tensors:
                raise self._refused(f"needs the tensor {data!r:.60}, which is not there")
            return self.tensors[data]
        table: Sequence[Size] | Sequence[Shared] | Sequence[Json] = self._written_bodies
        if kind == "size":
            table = self._sizes
        elif kind == "shared":
            table = self.shared
        number = self._numbers([data], len(table))[0]
        return self._body(number) if kind == "body" else table[number]

    def _body(self, number: int) -> Body:
        if number not in self._bodies:
            written = self._written_bodies[number]
            if not isinstance(written, list) or len(written) != 2:
                raise self._refused(f"has the body {number}, which cannot be read")
            inputs, outputs = (tuple(self._places(part)) for part in written)
            try:
                self._bodies[number] = Body(inputs, outputs)
            except SymgraphError as problem:
                raise self._refused(
                    f"has the body {number}, which is none: {problem.message}"
                ) from None
        return self._bodies[number]

    def _places(self, data: Json) -> list[Value]:
        """Give nodes by number; only those exist that come before the node that is read."""
        return [self.nodes[number] for number in self._numbers(data, len(self.nodes))]

    def _numbers(self, data: Json, count: int) -> list[int]:
        if not isinstance(data, list):
            raise self._refused(f"has {str(data)[:60]!r} where numbers are listed")
        found: list[int] = []
        for number in data:
            if type(number) is not int or not 0 <= number < count:
                raise self._refused(f"refers to {str(number)[:60]}, which does not come before it")
            found.append(number)
        return found


def typed_label(label: str) -> str | None:
    """Give a name as leaves take it, without what a terminal must not see."""
    return "".join(letter for letter in label if letter.isprintable())[:200] or None
