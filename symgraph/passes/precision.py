"""Mixed precision: products and convolutions of a half precision, everything else of float32.

Weights, their updates, sums and statistics stay in float32; what goes into a product is rounded to
bfloat16 or float16, and so is its result, which a library adds up in float32 before, with a bias if
there is one. Whoever else reads a rounded operand reads the rounded one, so that it is kept in
memory once.
"""

from __future__ import annotations

from symgraph.graph.dtypes import DType
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import cast_to
from symgraph.graph.node import Value, add_origins, make
from symgraph.graph.registry import OPS, F
from symgraph.graph.types import TupleType, same_size
from symgraph.passes.manager import Replacements, graph_pass

PRODUCTS = frozenset({"conv", "conv_bias", "conv_input", "conv_weight", "matmul", "matmul_bias"})
WITH_BIAS = {"conv": (1, "conv_bias"), "matmul": (-1, "matmul_bias")}  # the axis of a bias

VIEWS = frozenset({"permute_dims", "reshape", "expand_dims", "squeeze", "specify_shape"})


@graph_pass(stage="precision", default=False)
def bf16(graph: Graph) -> Replacements:
    """Compute products and convolutions of float32 in bfloat16."""
    return _Rounding(graph, "bfloat16").changed()


@graph_pass(stage="precision", default=False)
def fp16(graph: Graph) -> Replacements:
    """Compute products and convolutions of float32 in float16."""
    return _Rounding(graph, "float16").changed()


PASSES = {"fp32": (), "tf32": (), "bf16": (bf16,), "fp16": (fp16,)}


class _Rounding:
    def __init__(self, graph: Graph, dtype: DType) -> None:
        self.graph, self.dtype = graph, dtype
        products = [node for node in graph.values if _is_product(node)]
        self.rounded = {x for node in products for x in node.inputs if x.inputs}
        self.roots = frozenset(graph.roots)
        self.new: dict[Value, Value] = {}
        self.low: dict[Value, Value] = {}  # what a value of float32 is, rounded

    def changed(self) -> dict[Value, Value]:
        """Give what every value becomes, where it is another."""
        for node in self.graph.values:
            self.new[node] = self.one(node)
        return {old: new for old, new in self.new.items() if old is not new}

    def one(self, node: Value) -> Value:
        """Give what one value becomes, its operands being done."""
        operands = tuple(self.new[x] for x in node.inputs)
        if _is_product(node):
            product = make(node.op, *(self.narrow(x) for x in operands))
            add_origins(product, node.origins)
            return self.widen(product, node)
        if node.op.name == "add":
            for first, second in (node.inputs, node.inputs[::-1]):
                if self._adds_bias(first, second):
                    return self._with_bias(node, first, second)
        same = all(a is b for a, b in zip(operands, node.inputs))
        made = node if same else make(node.op, *operands)
        if made is not node:
            add_origins(made, node.origins)
        if node in self.rounded and not isinstance(node.type, TupleType):
            return self.widen(self.narrow(made), node)
        return made

    def _adds_bias(self, product: Value, bias: Value) -> bool:
        """Tell whether one operand is a product that nobody else reads, the other its bias."""
        if not _is_product(product) or product.op.name not in WITH_BIAS:
            return False
        axis, _ = WITH_BIAS[product.op.name]
        alone = self.graph.out_degree(product.node) == 1 and product not in self.roots
        return alone and is_bias(bias, product, axis)

    def _with_bias(self, node: Value, product: Value, bias: Value) -> Value:
        """Give a product that adds its bias before it is rounded."""
        axis, name = WITH_BIAS[product.op.name]
        op = OPS[name](**product.op.attributes())
        flat = F.reshape(self.new[bias], (product.shape[axis],))
        made = make(op, *(self.narrow(self.new[x]) for x in product.inputs), flat)
        add_origins(made, product.origins)
        add_origins(made, node.origins)
        return self.widen(made, node)

    def narrow(self, value: Value) -> Value:
        """Give a value of float32, rounded."""
        chain = [value]  # what only looks at another value otherwise looks at its rounded one
        while chain[-1] not in self.low and chain[-1].op.name in VIEWS:
            chain.append(chain[-1].inputs[0])
        for one in reversed(chain):
            if one not in self.low:
                inner = self.low.get(one.inputs[0]) if one.op.name in VIEWS else None
                self.low[one] = cast_to(one, self.dtype) if inner is None else make(one.op, inner)
        return self.low[value]

    def widen(self, value: Value, like: Value) -> Value:
        """Give a rounded value as float32, and remember where it came from."""
        wide = cast_to(value, "float32")
        add_origins(wide, like.origins)
        self.low[wide] = value
        return wide


def is_bias(value: Value, product: Value, axis: int) -> bool:
    """Tell whether a value has one number for each place along an axis of a product."""
    shape = [1] * (product.ndim - value.ndim) + list(value.shape)
    own = shape.pop(axis) if len(shape) == product.ndim else None
    if own is None or not same_size(own, product.shape[axis]):
        return False
    return all(same_size(size, 1) for size in shape)


def _is_product(node: Value) -> bool:
    if node.op.name not in PRODUCTS or node.tensor.dtype != "float32":
        return False
    return all(x.ndim > 1 for x in node.inputs)
