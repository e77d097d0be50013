"""LLVM IR of loops that are written by hand: variables in memory, loops and conditions nest.

LLVM's own passes put the variables into registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

# how elements lie in memory, and as what they are computed
STORED = {
    "bool": "i8", "int8": "i8", "uint8": "i8", "int16": "i16", "uint16": "i16", "int32": "i32",
    "uint32": "i32", "int64": "i64", "uint64": "i64", "float16": "half", "bfloat16": "i16",
    "float32": "float", "float64": "double",
}  # fmt: skip


class Code:
    """A function that is being written; values are names of LLVM IR."""

    def __init__(self, name: str, arguments: str) -> None:
        self.name, self.arguments = name, arguments
        self._variables: list[str] = []
        self._lines: list[str] = []
        self._count = 0

    def text(self) -> str:
        """Give the whole function."""
        body = "\n".join((*self._variables, *self._lines))
        return f"define internal void @{self.name}({self.arguments}) {{\n{body}\n  ret void\n}}\n"

    def new(self, expression: str) -> str:
        """Compute a value."""
        self._count += 1
        self._lines.append(f"  %v{self._count} = {expression}")
        return f"%v{self._count}"

    def do(self, line: str) -> None:
        """Write a line that gives no value."""
        self._lines.append(f"  {line}")

    # -- whole numbers -----------------------------------------------------------------------------

    def add(self, a: str, b: str) -> str:
        """Give a + b."""
        return self.new(f"add i64 {a}, {b}")

    def multiply(self, a: str, b: str) -> str:
        """Give a * b."""
        return self.new(f"mul i64 {a}, {b}")

    def less(self, a: str, b: str) -> str:
        """Whether a < b."""
        return self.new(f"icmp slt i64 {a}, {b}")

    def smaller(self, a: str, b: str) -> str:
        """Give the smaller of two."""
        return self.new(f"select i1 {self.less(a, b)}, i64 {a}, i64 {b}")

    # -- memory ------------------------------------------------------------------------------------

    def at(self, kind: str, base: str, index: str) -> str:
        """Give the address of an element."""
        return self.new(f"getelementptr {kind}, ptr {base}, i64 {index}")

    def load(self, kind: str, base: str, index: str) -> str:
        """Read an element."""
        return self.new(f"load {kind}, ptr {self.at(kind, base, index)}")

    def store(self, kind: str, value: str, base: str, index: str) -> None:
        """Write an element."""
        self.do(f"store {kind} {value}, ptr {self.at(kind, base, index)}")

    def variable(self, start: str, kind: str = "i64") -> str:
        """Make a variable."""
        self._count += 1
        name = f"%p{self._count}"
        self._variables.append(f"  {name} = alloca {kind}")
        self.set(name, start, kind)
        return name

    def get(self, variable: str, kind: str = "i64") -> str:
        """Read a variable."""
        return self.new(f"load {kind}, ptr {variable}")

    def set(self, variable: str, value: str, kind: str = "i64") -> None:
        """Write a variable."""
        self.do(f"store {kind} {value}, ptr {variable}")

    # -- order -------------------------------------------------------------------------------------

    @contextmanager
    def loop(self, first: str, until: str, step: str = "1") -> Iterator[str]:
        """Repeat what is written inside for each number from `first` on below `until`."""
        counter = self.variable(first)
        with self.repeat(lambda: self.less(self.get(counter), until)):
            index = self.get(counter)
            yield index
            self.set(counter, self.add(index, step))

    @contextmanager
    def repeat(self, condition: Callable[[], str]) -> Iterator[None]:
        """Repeat what is written inside while a condition holds; it is computed each time."""
        self._count += 1
        number = self._count
        self.do(f"br label %head{number}")
        self._lines.append(f"head{number}:")
        holds = condition()
        self.do(f"br i1 {holds}, label %body{number}, label %end{number}")
        self._lines.append(f"body{number}:")
        yield
        self.do(f"br label %head{number}")
        self._lines.append(f"end{number}:")

    @contextmanager
    def when(self, holds: str) -> Iterator[None]:
        """Do what is written inside only if a condition holds."""
        self._count += 1
        number = self._count
        self.do(f"br i1 {holds}, label %then{number}, label %after{number}")
        self._lines.append(f"then{number}:")
        yield
        self.do(f"br label %after{number}")
        self._lines.append(f"after{number}:")


_ENTRY = """
define internal void @share(ptr %given) {
  %own_at = inttoptr i64 {number} to ptr
  %of_at = inttoptr i64 {count} to ptr
  %own32 = call i32 %own_at()
  %of32 = call i32 %of_at()
  %own = zext i32 %own32 to i64
  %of = zext i32 %of32 to i64
  %words = load ptr, ptr %given
  %addresses_at = getelementptr ptr, ptr %given, i64 1
  %addresses = load ptr, ptr %addresses_at
  %tasks = load i64, ptr %words
  %before = mul i64 %tasks, %own
  %low = udiv i64 %before, %of
  %next = add i64 %own, 1
  %until = mul i64 %tasks, %next
  %high = udiv i64 %until, %of
  call void @work(ptr %words, ptr %addresses, i64 %low, i64 %high, i64 %own)
  ret void
}

define i32 @{name}(ptr %words, ptr %nothing, i32 %threads, ptr %addresses) {
start:
  %several = icmp sgt i32 %threads, 1
  br i1 %several, label %parallel, label %serial
parallel:
  %given = alloca [2 x ptr]
  store ptr %words, ptr %given
  %second = getelementptr ptr, ptr %given, i64 1
  store ptr %addresses, ptr %second
  %pool = inttoptr i64 {parallel} to ptr
  call void %pool(ptr @share, ptr %given, i32 %threads, i32 0)
  br label %end
serial:
  %tasks = load i64, ptr %words
  call void @work(ptr %words, ptr %addresses, i64 0, i64 %tasks, i64 0)
  br label %end
end:
  ret i32 0
}
"""
NAME = "sequential"
ARGUMENTS = "ptr %words, ptr %addresses, i64 %low, i64 %high, i64 %own"


def module(work: Code, places: Mapping[str, object]) -> str:
    """Give a module with one function, whose first word is the number of tasks that are shared."""
    text = _ENTRY.replace("{name}", NAME)
    for name, value in places.items():
        text = text.replace(f"{{{name}}}", str(value))
    return work.text() + text


def worker() -> Code:
    """Begin the function that does a range of tasks."""
    return Code("work", ARGUMENTS)
