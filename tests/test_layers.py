"""The way through the house is one-way: imports, late imports, walkers and lengths of files.

Every rule is a function of a root folder that gives a list of sentences, so that each can be shown
to fail on a small tree planted for it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

REPOSITORY = Path(__file__).parent.parent

# A file imports only from files of an earlier row, or of its own folder.
ORDER = """
_version errors interrupts frozen config
dims
graph
ops
linalg fft
autodiff
cost
passes
lower
backends
runtime
io
function
jit
array_api
debug
nn
optim
data
parallel
compression
doctor
bench
__init__
__main__
"""
RANK = {name: row for row, line in enumerate(ORDER.split("\n")) for name in line.split()}

# Not needed to build, differentiate and interpret a graph: imported late, by the few who use them.
OPTIONAL = {
    "cffi", "cupy", "jax", "llvmlite", "matplotlib", "mpi4py", "mpmath", "onnx", "PIL", "ray",
    "rich", "safetensors", "scipy", "sklearn", "sympy", "threadpoolctl", "torch",
}  # fmt: skip

LONGEST_FILE = 500


@dataclass(frozen=True)
class Import:
    """One name of one import statement: the module it needs and where it stands."""

    module: str  # absolute, as `symgraph.graph.types`
    member: str  # what `from` takes out of it, or ""
    line: int
    late: bool  # inside a function
    typing_only: bool  # under `if TYPE_CHECKING:`


# Every rule reads the whole package: each text is parsed once, and its imports are listed once.
@cache
def parsed(path: Path, text: str) -> ast.Module:
    """Parse the text of a file."""
    return ast.parse(text, filename=str(path))


def sources(root: Path) -> dict[Path, ast.Module]:
    """Parse every file of a package."""
    return {
        path: parsed(path, path.read_text(encoding="utf-8")) for path in sorted(root.rglob("*.py"))
    }


@cache
def imports(path: Path, tree: ast.Module, root: Path) -> list[Import]:
    """List every import of a file, wherever it stands, relative ones made absolute."""
    package = ".".join((root.name, *path.relative_to(root).parent.parts))
    found: list[Import] = []

    def visit(body: ast.AST, late: bool, typing_only: bool) -> None:
        for child in ast.iter_child_nodes(body):
            flags = (late, typing_only)
            if isinstance(child, ast.Import):
                found.extend(Import(name.name, "", child.lineno, *flags) for name in child.names)
            elif isinstance(child, ast.ImportFrom):
                module = _absolute(child, package)
                found.extend(
                    Import(module, name.name, child.lineno, *flags) for name in child.names
                )
            elif isinstance(child, ast.Call) and _imports_by_name(child):
                text = child.args[0]
                assert isinstance(text, ast.Constant)
                found.append(Import(str(text.value), "", child.lineno, *flags))
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            visit(child, late or inside, typing_only or guard)

    visit(tree, False, False)
    return found


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    if not statement.level:
        return statement.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - statement.level + 1]
    return ".".join([*base, *([statement.module] if statement.module else [])])


def _imports_by_name(call: ast.Call) -> bool:
    last = call.func.attr if isinstance(call.func, ast.Attribute) else _name(call.func)
    literal = bool(call.args) and isinstance(call.args[0], ast.Constant)
    return last in {"import_module", "__import__"} and literal


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def resolve(each: Import, root: Path) -> Path | None:
    """Give the file of this package that an import reads, or None for another package."""
    parts = each.module.split(".")
    if parts[0] != root.name:
        return None
    folder = root.joinpath(*parts[1:])
    choices = [folder / each.member, folder] if each.member else [folder]
    for choice in choices:
        for path in (choice.with_suffix(".py"), choice / "__init__.py"):
            if path.is_file():
                return path
    return None


def import_graph(root: Path, for_types: bool = True) -> nx.DiGraph:
    """An edge from every file to each file of the package that it imports.

    Without `for_types`, imports under `if TYPE_CHECKING:` are left out: they never run.
    """
    graph = nx.DiGraph()
    for path, tree in sources(root).items():
        graph.add_node(path)
        for each in imports(path, tree, root):
            target = resolve(each, root)
            if target is not None and (for_types or not each.typing_only):
                graph.add_edge(path, target, line=each.line)
    return graph


def _place(path: Path, root: Path) -> str:
    first = path.relative_to(root).parts[0]
    return first.removesuffix(".py")


def _show(path: Path, root: Path, line: int | None = None) -> str:
    shown = path.relative_to(root.parent).as_posix()
    return shown if line is None else f"{shown}:{line}"


def upward_imports(root: Path) -> list[str]:
    """A file imports only from the folders above its own in ORDER; `models` lies below all."""
    wrong = []
    for path, target, line in import_graph(root).edges(data="line"):
        here, there = _place(path, root), _place(target, root)
        if here in RANK and there in RANK and RANK[there] > RANK[here]:
            wrong.append(f"{_show(path, root, line)} ({here}) imports {there}")
    for path, tree in sources(root).items():
        wrong.extend(
            f"{_show(path, root, each.line)} imports models"
            for each in imports(path, tree, root)
            if each.module.split(".")[0] == "models"
        )
    return wrong


def unplaced_files(root: Path) -> list[str]:
    """Every file and folder has a place in ORDER."""
    places = {_place(path, root) for path in sources(root)}
    return [f"{root.name}: `{place}` has no place in ORDER" for place in sorted(places - set(RANK))]


def import_cycles(root: Path) -> list[str]:
    """No file reaches itself through imports that run; two types may name each other."""
    graph = import_graph(root, for_types=False)
    groups = [group for group in nx.strongly_connected_components(graph) if len(group) > 1]
    cycles = [nx.find_cycle(graph.subgraph(group)) for group in groups]
    cycles += [[(path, path)] for path in nx.nodes_with_selfloops(graph)]
    return [
        " -> ".join(_show(path, root) for path in [*(edge[0] for edge in cycle), cycle[0][0]])
        for cycle in cycles
    ]


def missing_imports(root: Path) -> list[str]:
    """An import of the own package names a file that is there."""
    return [
        f"{_show(path, root, each.line)} imports {each.module}, which is not there"
        for path, tree in sources(root).items()
        for each in imports(path, tree, root)
        if each.module.split(".")[0] == root.name
        and resolve(each, root) is None
        and not root.parent.joinpath(*each.module.split(".")).is_dir()
    ]


def late_own_imports(root: Path) -> list[str]:
    """The own package is never imported inside a function."""
    return [
        f"{_show(path, root, each.line)} imports {each.module} inside a function"
        for path, tree in sources(root).items()
        for each in imports(path, tree, root)
        if each.late and each.module.split(".")[0] == root.name
    ]


def early_optional_imports(root: Path) -> list[str]:
    """An optional package is imported only inside the function that needs it."""
    return [
        f"{_show(path, root, each.line)} imports {each.module} at the top"
        for path, tree in sources(root).items()
        for each in imports(path, tree, root)
        if not each.late and not each.typing_only and each.module.split(".")[0] in OPTIONAL
    ]


def recursive_walkers(root: Path) -> list[str]:
    """A function that goes over `.inputs` and refers to itself is recursive: only in walk.py."""
    return [
        f"{_show(path, root, function.lineno)}: {function.name} walks `.inputs` recursively"
        for path, tree in sources(root).items()
        if path.name != "walk.py"
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and _goes_over_inputs(function)
        and _refers_to_itself(function)
    ]


def _goes_over_inputs(function: ast.AST) -> bool:
    def iterated() -> Iterator[ast.AST]:
        for node in ast.walk(function):
            if isinstance(node, ast.For | ast.comprehension):
                yield node.iter
            elif isinstance(node, ast.Call) and _name(node.func) in {"map", "zip"}:
                yield from node.args

    return any(
        isinstance(part, ast.Attribute) and part.attr == "inputs"
        for expression in iterated()
        for part in ast.walk(expression)
    )


def _refers_to_itself(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == function.name:
            return True
        if (
            isinstance(node, ast.Attribute)
            and node.attr == function.name
            and isinstance(node.value, ast.Name)
            and node.value.id in {"self", "cls"}
        ):
            return True
    return False


def costly_frozen_classes(root: Path) -> list[str]:
    """A frozen class is made by `frozen`; only one with slots is made by `dataclass`."""
    return [
        f"{_show(path, root, call.lineno)} makes a frozen class by `dataclass`"
        for path, tree in sources(root).items()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and (_name(call.func) == "dataclass" or ast.unparse(call.func) == "dataclasses.dataclass")
        and any(option.arg == "frozen" for option in call.keywords)
        and not any(option.arg == "slots" for option in call.keywords)
    ]


def long_files(root: Path) -> list[str]:
    """A file does one thing and is short."""
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in root.rglob("*.py")}
    return [
        f"{_show(path, root)} has {length} lines, more than {LONGEST_FILE}"
        for path, length in sorted(lengths.items())
        if length > LONGEST_FILE
    ]


def folders_without_a_word(root: Path) -> list[str]:
    """Each folder's `__init__.py` opens with what lives there."""
    wrong = []
    for folder in sorted({path.parent for path in root.rglob("*.py")}):
        start = folder / "__init__.py"
        if not start.is_file() or not ast.get_docstring(ast.parse(start.read_text("utf-8"))):
            wrong.append(f"{_show(folder, root)} has no __init__.py that says what lives there")
    return wrong


RULES: list[Callable[[Path], list[str]]] = [
    upward_imports,
    unplaced_files,
    import_cycles,
    missing_imports,
    late_own_imports,
    early_optional_imports,
    recursive_walkers,
    costly_frozen_classes,
    long_files,
    folders_without_a_word,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule: Callable[[Path], list[str]]) -> None:
    broken = rule(REPOSITORY / "symgraph")
    assert not broken, "\n".join([str(rule.__doc__), *broken])


@pytest.mark.parametrize("folder", ["models", "benchmarks", "tests"])
def test_other_folders_keep_their_files_short(folder: str) -> None:
    assert not long_files(REPOSITORY / folder)


def test_import_graph_sees_the_package() -> None:
    root = REPOSITORY / "symgraph"
    graph = import_graph(root)
    assert graph.has_edge(root / "config.py", root / "errors.py")
    assert nx.is_directed_acyclic_graph(import_graph(root, for_types=False))


def planted(tmp_path: Path, files: dict[str, str]) -> Path:
    """Write a small package and give its root."""
    root = tmp_path / "symgraph"
    for name in {"", *(str(Path(name).parent) for name in files)}:
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text('"""What lives here."""\n')
    for name, text in files.items():
        (root / name).write_text(text)
    return root


CLEAN = {
    "errors.py": "class E(Exception): ...\n",
    "dims/dim.py": "from symgraph.errors import E\n",
    "graph/walk.py": "def walk(n):\n    for i in n.inputs:\n        walk(i)\n",
    "graph/value.py": "from symgraph.dims import dim\nfrom . import walk, mutual\n",
    "graph/tex.py": "def tex():\n    import sympy\n    return sympy\n",
    "graph/hint.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sympy\n",
    "graph/mutual.py": "if TYPE_CHECKING:\n    from . import value\n",
    "graph/loop.py": "def use(n):\n    return [i for i in n.inputs]\n",
    "ops/add.py": "import numpy\nfrom symgraph.graph.value import Value\n",
    "ops/row.py": "@dataclass(frozen=True, slots=True)\nclass R: ...\n@frozen\nclass S: ...\n",
}


def test_a_clean_tree_keeps_every_rule(tmp_path: Path) -> None:
    root = planted(tmp_path, CLEAN)
    assert [rule(root) for rule in RULES] == [[] for _ in RULES]


BREAKS = [
    (upward_imports, {"dims/a.py": "from symgraph.graph import value\n"}, "(dims) imports graph"),
    (upward_imports, {"dims/a.py": "import symgraph.ops.add\n"}, "dims/a.py:1 (dims) imports ops"),
    (upward_imports, {"graph/a.py": "from ..ops import add\n"}, "(graph) imports ops"),
    (upward_imports, {"errors.py": "from symgraph.dims import dim\n"}, "(errors) imports dims"),
    (upward_imports, {"ops/a.py": "def f():\n    from symgraph import nn\n", "nn/b.py": ""}, "nn"),
    (upward_imports, {"ops/a.py": "from symgraph import tensor\n"}, "(ops) imports __init__"),
    (upward_imports, {"nn/a.py": "import models.alexnet\n"}, "nn/a.py:1 imports models"),
    (
        upward_imports,
        {"dims/a.py": "if TYPE_CHECKING:\n    from symgraph.graph import value\n"},
        "dims/a.py:2 (dims) imports graph",
    ),
    (unplaced_files, {"stuff/a.py": ""}, "`stuff` has no place in ORDER"),
    (unplaced_files, {"helpers.py": ""}, "`helpers` has no place in ORDER"),
    (
        import_cycles,
        {"dims/a.py": "from . import b\n", "dims/b.py": "from symgraph.dims.a import x\n"},
        "symgraph/dims/b.py -> symgraph/dims/a.py",
    ),
    (import_cycles, {"dims/a.py": "import symgraph.dims.a\n"}, "dims/a.py -> symgraph/dims/a.py"),
    (missing_imports, {"dims/a.py": "from symgraph.dmis import b\n"}, "symgraph.dmis, which is"),
    (late_own_imports, {"ops/a.py": "def f():\n    import symgraph.dims\n"}, "a.py:2 imports"),
    (late_own_imports, {"ops/a.py": "f = lambda: __import__('symgraph.dims')\n"}, "a.py:1"),
    (late_own_imports, {"ops/a.py": "async def f():\n    from ..dims import dim\n"}, "a.py:2"),
    (
        late_own_imports,
        {"ops/a.py": "class C:\n  def f(self):\n    importlib.import_module('symgraph.dims')\n"},
        "a.py:3",
    ),
    (early_optional_imports, {"dims/a.py": "import sympy.core\n"}, "imports sympy.core at the top"),
    (early_optional_imports, {"io/a.py": "try:\n    import torch\nexcept E: ...\n"}, "torch"),
    (early_optional_imports, {"io/a.py": "class C:\n    from PIL import Image\n"}, "PIL"),
    (
        recursive_walkers,
        {"graph/a.py": "def depth(v):\n    return 1 + max(depth(i) for i in v.inputs)\n"},
        "depth walks `.inputs` recursively",
    ),
    (
        recursive_walkers,
        {"graph/a.py": "class C:\n  def go(self, v):\n    for i in v.inputs: self.go(i)\n"},
        "a.py:2: go walks",
    ),
    (
        recursive_walkers,
        {"graph/a.py": "def f(v):\n    def go(v):\n        return list(map(go, v.inputs))\n"},
        "a.py:2: go walks",
    ),
    (
        costly_frozen_classes,
        {"dims/a.py": "@dataclass(frozen=True)\nclass C: ...\n"},
        "dims/a.py:1 makes a frozen class by `dataclass`",
    ),
    (
        costly_frozen_classes,
        {"dims/a.py": "C = dataclasses.dataclass(eq=False, frozen=True)(B)\n"},
        "1",
    ),
    (long_files, {"dims/a.py": "x = 1\n" * (LONGEST_FILE + 1)}, "has 501 lines"),
    (folders_without_a_word, {"dims/__init__.py": "x = 1\n"}, "symgraph/dims has no"),
]


@pytest.mark.parametrize(
    ("rule", "files", "message"),
    BREAKS,
    ids=[f"{rule.__name__}-{number}" for number, (rule, _, _) in enumerate(BREAKS)],
)
def test_every_rule_can_fail(
    tmp_path: Path, rule: Callable[[Path], list[str]], files: dict[str, str], message: str
) -> None:
    found = rule(planted(tmp_path, {**CLEAN, **files}))
    assert len(found) == 1, found
    assert message in found[0]


def test_every_rule_is_shown_to_fail() -> None:
    assert {rule for rule, _, _ in BREAKS} == set(RULES)
