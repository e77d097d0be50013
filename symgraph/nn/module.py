"""`Module`: an object that holds shared variables and modules, and builds graph when called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.graph.dtypes import default_float, dtype_name, numpy_dtype
from symgraph.graph.leaves import Shared, shared, tensor
from symgraph.graph.node import Value
from symgraph.graph.origin import inside
from symgraph.graph.types import Shape
from symgraph.nn.init import Initialiser, generator


class Scope(NamedTuple):
    """The calls that are running: where the innermost is, and what the outermost calls modules."""

    path: str
    names: Mapping[int, str]  # the id of each module below the outermost -> its path


_scope: ContextVar[Scope | None] = ContextVar("scope", default=None)


class Module:
    """Base of layers and networks: subclasses make parameters in `__init__`, graph in `forward`.

    Shared variables and modules among the attributes are found by name, in the order of
    assignment, also inside lists, tuples and dicts. Calling a module calls `forward(x, train=...)`.

    >>> import symgraph as sg
    >>> net = sg.nn.Sequential(sg.nn.Dense(4, 8), sg.nn.Activation("relu"), sg.nn.Dense(8, 2))
    >>> [name for name, _ in net.named_parameters()]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def parameter(
        self, name: str, shape: Sequence[int], initial: Initialiser, dtype: Any = None
    ) -> Shared:
        """Make a trained shared variable, drawn by an initialiser."""
        return self._made(name, shape, initial, dtype, trained=True)

    def buffer(
        self, name: str, shape: Sequence[int], initial: Initialiser, dtype: Any = None
    ) -> Shared:
        """Make a shared variable that is state, not trained (running means)."""
        return self._made(name, shape, initial, dtype, trained=False)

    def _made(
        self, name: str, shape: Sequence[int], initial: Initialiser, dtype: Any, trained: bool
    ) -> Shared:
        sizes = tuple(int(size) for size in shape)
        kind = numpy_dtype(dtype_name(dtype or default_float()))
        variable = shared(initial(sizes, generator()).astype(kind), name)
        if not trained:
            self.__dict__.setdefault("_buffers", set()).add(variable)
        return variable

    def __call__(self, x: Any, *, train: bool = False, **options: Any) -> Value:
        """Build the graph of this module on a value; `train` switches dropout and batch norm.

        Values know the module that made them: `value.origins[0].module`.
        """
        with self._entered():
            return self.forward(x, train=train, **options)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """Tell the values made inside where they are: `AlexNet/features.0`."""
        outer = _scope.get()
        if outer is None:
            name = type(self).__name__
            below = {id(module): f"{name}/{path}" for path, module in self.named_modules() if path}
            scope = Scope(name, {id(self): name, **below})
        else:
            # a module made during the call is held by nobody
            path = outer.names.get(id(self)) or f"{outer.path}.{type(self).__name__}"
            scope = Scope(path, outer.names)
        token = _scope.set(scope)
        try:
            with inside(scope.path):
                yield
        finally:
            _scope.reset(token)

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """Build the graph; subclasses give it."""
        raise ArgumentTypeError(
            f"{type(self).__name__}: the module has no `forward`.",
            fix="define forward(self, x, *, train=False)",
        )

    def input_shape(self) -> Shape | None:
        """Give the shape of an input, with symbols for sizes that are free; None where unknown.

        Here it is that of the first module below that knows its own.
        """
        found = (child.input_shape() for _, child in self.children())
        return next((shape for shape in found if shape is not None), None)

    def example(self) -> Value:
        """Build the graph on an input `x` of a fitting shape, to be looked at.

        Raises `ArgumentError` where `input_shape` is unknown.
        """
        shape = self.input_shape()
        if shape is None:
            name = type(self).__name__
            raise ArgumentError(
                f"{name}: the shape of its input is unknown.",
                fix="call it on a value of yours and look at the result, or give it input_shape()",
            )
        return self(tensor("x", shape))

    def children(self) -> Iterator[tuple[str, Module]]:
        """Give the modules held directly, by name."""
        return ((name, held) for name, held in self._held() if isinstance(held, Module))

    def _held(self) -> Iterator[tuple[str, Shared | Module]]:
        """Give the variables and modules among the attributes; a list `layers` adds no name."""
        for attribute, value in self.__dict__.items():
            yield from _found("" if attribute == "layers" else attribute, value)

    def named_state(self) -> dict[str, Shared]:
        """Name every shared variable, trained or not, in order, each once."""
        return dict(self._walk())

    def named_parameters(self) -> list[tuple[str, Shared]]:
        """Name every trained variable, in order, each once."""
        modules = [module for _, module in self.named_modules()]
        state = {v for module in modules for v in module.__dict__.get("_buffers", ())}
        return [(name, variable) for name, variable in self._walk() if variable not in state]

    def parameters(self, ending: str | None = None) -> list[Shared]:
        """Give the trained variables; with `ending` those whose last name is this ("bias")."""
        return [
            variable
            for name, variable in self.named_parameters()
            if ending is None or name.rsplit(".", 1)[-1] == ending
        ]

    def _walk(self) -> Iterator[tuple[str, Shared]]:
        seen: set[Shared] = set()
        for prefix, module in self.named_modules():
            for name, held in module._held():
                if isinstance(held, Shared) and held not in seen:
                    seen.add(held)
                    yield (f"{prefix}.{name}" if prefix else name), held

    def named_modules(self) -> list[tuple[str, Module]]:
        """Name this module ("") and all modules below it, in order, each once."""
        result: list[tuple[str, Module]] = []
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [("", self)]
        while stack:
            prefix, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            result.append((prefix, module))
            below = [(f"{prefix}.{n}" if prefix else n, child) for n, child in module.children()]
            stack.extend(reversed(below))
        return result

    def count(self) -> int:
        """Count the trained numbers."""
        return sum(variable.storage.array.size for variable in self.parameters())


def _found(name: str, value: Any) -> Iterator[tuple[str, Shared | Module]]:
    """Give the variables and modules in a value, through lists, tuples and dicts."""
    if isinstance(value, Shared | Module):
        yield name, value
    elif isinstance(value, list | tuple | dict):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in pairs:
            yield from _found(f"{name}.{key}" if name else str(key), one)


class Sequential(Module):
    """Modules, or functions of a value, one after the other."""

    def __init__(self, *layers: Module | Callable[[Value], Value]) -> None:
        for layer in layers:
            if not callable(layer):
                raise ArgumentTypeError(
                    f"Sequential: a layer must be a module or a function, "
                    f"got {type(layer).__name__}."
                )
        if not layers:
            raise ArgumentError("Sequential: there are no layers.")
        self.layers = list(layers)

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """Apply each layer to the result of the one before."""
        value: Value = x
        for layer in self.layers:
            value = layer(value, train=train) if isinstance(layer, Module) else layer(value)
        return value

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Module | Callable[[Value], Value]:
        return self.layers[index]
