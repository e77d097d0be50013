"""The native code between the driver and BLAS: a product in parts, on the threads of the driver.

BLAS is kept to the thread that calls it while products run, and parts are shared out on the pool
of the generated loops: a pool of its own would wait for work on the cores that those need. How many
threads BLAS has otherwise is noted when the first product starts and given back after the last.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from symgraph.backends.cpu.blas.library import Blas
from symgraph.backends.cpu.compiler import Library, compile_text
from symgraph.backends.cpu.driver import driver

# What stands in the words of a product, before the offsets of each matrix of a batch.
WORDS = (
    "order", "turn_x", "turn_y", "rows", "inner", "columns", "line_x", "line_y", "line_out",
    "step_x", "step_y", "down_out", "along_out", "tall", "wide", "down", "along", "parts",
)  # fmt: skip

_SHARE = """
define internal void @share_{name}(ptr %product) {
  %own_at = inttoptr i64 {number} to ptr
  %of_at = inttoptr i64 {count} to ptr
  %own = call i32 %own_at()
  %of = call i32 %of_at()
  %own64 = zext i32 %own to i64
  %of64 = zext i32 %of to i64
  %words = load ptr, ptr %product
  %addresses_at = getelementptr ptr, ptr %product, i64 1
  %addresses = load ptr, ptr %addresses_at
  %parts_at = getelementptr i64, ptr %words, i64 {last}
  %parts = load i64, ptr %parts_at
  %before = mul i64 %parts, %own64
  %low = udiv i64 %before, %of64
  %next = add i64 %own64, 1
  %until = mul i64 %parts, %next
  %high = udiv i64 %until, %of64
  call void @parts_{name}(ptr %words, ptr %addresses, i64 %low, i64 %high)
  ret void
}

define i32 @{name}(ptr %words, ptr %nothing, i32 %threads, ptr %addresses) {
start:
  call void @enter()
  %several = icmp sgt i32 %threads, 1
  br i1 %several, label %parallel, label %serial
parallel:
  %product = alloca [2 x ptr]
  store ptr %words, ptr %product
  %second = getelementptr ptr, ptr %product, i64 1
  store ptr %addresses, ptr %second
  %pool = inttoptr i64 {parallel} to ptr
  call void %pool(ptr @share_{name}, ptr %product, i32 %threads, i32 0)
  br label %end
serial:
  %parts_at = getelementptr i64, ptr %words, i64 {last}
  %parts = load i64, ptr %parts_at
  call void @parts_{name}(ptr %words, ptr %addresses, i64 0, i64 %parts)
  br label %end
end:
  call void @leave()
  ret i32 0
}
"""

_PARTS = """
define internal void @parts_{name}(ptr %words, ptr %addresses, i64 %low, i64 %high) {
start:
{loads}
  %order32 = trunc i64 %order to i32
  %turn_x32 = trunc i64 %turn_x to i32
  %turn_y32 = trunc i64 %turn_y to i32
  %x = load ptr, ptr %addresses
  %y_at = getelementptr ptr, ptr %addresses, i64 1
  %y = load ptr, ptr %y_at
  %out_at = getelementptr ptr, ptr %addresses, i64 2
  %out = load ptr, ptr %out_at
  %offsets = getelementptr i64, ptr %words, i64 {words}
  %each = mul i64 %down, %along
  %function = inttoptr i64 {function} to ptr
  br label %head
head:
  %part = phi i64 [ %low, %start ], [ %next, %body ]
  %more = icmp slt i64 %part, %high
  br i1 %more, label %body, label %end
body:
  %matrix = udiv i64 %part, %each
  %place = urem i64 %part, %each
  %row_part = udiv i64 %place, %along
  %column_part = urem i64 %place, %along
  %row = mul i64 %row_part, %tall
  %column = mul i64 %column_part, %wide
  %rows_left = sub i64 %rows, %row
  %own_rows = call i64 @llvm.umin.i64(i64 %rows_left, i64 %tall)
  %columns_left = sub i64 %columns, %column
  %own_columns = call i64 @llvm.umin.i64(i64 %columns_left, i64 %wide)
  %first = mul i64 %matrix, 3
  %offset_x_at = getelementptr i64, ptr %offsets, i64 %first
  %offset_y_at = getelementptr i64, ptr %offset_x_at, i64 1
  %offset_out_at = getelementptr i64, ptr %offset_x_at, i64 2
  %offset_x = load i64, ptr %offset_x_at
  %offset_y = load i64, ptr %offset_y_at
  %offset_out = load i64, ptr %offset_out_at
  %down_x = mul i64 %row, %step_x
  %along_y = mul i64 %column, %step_y
  %below = mul i64 %row, %down_out
  %beside = mul i64 %column, %along_out
  %place_x = add i64 %offset_x, %down_x
  %place_y = add i64 %offset_y, %along_y
  %corner = add i64 %below, %beside
  %place_out = add i64 %offset_out, %corner
  %own_x = getelementptr {type}, ptr %x, i64 %place_x
  %own_y = getelementptr {type}, ptr %y, i64 %place_y
  %own_out = getelementptr {type}, ptr %out, i64 %place_out
  call void %function(i32 %order32, i32 %turn_x32, i32 %turn_y32,
                      i64 %own_rows, i64 %own_columns, i64 %inner,
                      {type} 1.0, ptr %own_x, i64 %line_x, ptr %own_y, i64 %line_y,
                      {type} 0.0, ptr %own_out, i64 %line_out)
  %next = add i64 %part, 1
  br label %head
end:
  ret void
}
"""

# The words of the state: how many products run, the threads of BLAS before, a mutex of the system.
_LIMIT = """
define internal void @enter() {
start:
  %mutex = inttoptr i64 {mutex} to ptr
  %running_at = inttoptr i64 {state} to ptr
  %before_at = getelementptr i64, ptr %running_at, i64 1
  %lock = inttoptr i64 {lock} to ptr
  %unlock = inttoptr i64 {unlock} to ptr
  call i32 %lock(ptr %mutex)
  %running = load i64, ptr %running_at
  %more = add i64 %running, 1
  store i64 %more, ptr %running_at
  %first = icmp eq i64 %running, 0
  br i1 %first, label %limit, label %end
limit:
  %get = inttoptr i64 {get} to ptr
  %set = inttoptr i64 {set} to ptr
  %before = call i32 %get()
  %before64 = sext i32 %before to i64
  store i64 %before64, ptr %before_at
  %several = icmp sgt i32 %before, 1
  br i1 %several, label %change, label %end
change:
  call void %set(i32 1)
  br label %end
end:
  call i32 %unlock(ptr %mutex)
  ret void
}

define internal void @leave() {
start:
  %mutex = inttoptr i64 {mutex} to ptr
  %running_at = inttoptr i64 {state} to ptr
  %before_at = getelementptr i64, ptr %running_at, i64 1
  %lock = inttoptr i64 {lock} to ptr
  %unlock = inttoptr i64 {unlock} to ptr
  call i32 %lock(ptr %mutex)
  %running = load i64, ptr %running_at
  %fewer = sub i64 %running, 1
  store i64 %fewer, ptr %running_at
  %before64 = load i64, ptr %before_at
  %before = trunc i64 %before64 to i32
  %last = icmp eq i64 %fewer, 0
  %several = icmp sgt i32 %before, 1
  %change = and i1 %last, %several
  br i1 %change, label %restore, label %end
restore:
  %set = inttoptr i64 {set} to ptr
  call void %set(i32 %before)
  br label %end
end:
  call i32 %unlock(ptr %mutex)
  ret void
}
"""

_NO_LIMIT = """
define internal void @enter() {
  ret void
}

define internal void @leave() {
  ret void
}
"""

_TYPES = {"float32": "float", "float64": "double"}


class Wrapper:
    """The compiled functions that multiply, by dtype, each as a record of the driver calls it."""

    def __init__(self, found: Blas) -> None:
        pool = driver().pool
        self._state = np.zeros(16, np.int64)  # zeros are an open mutex
        places = {
            "parallel": pool("GOMP_parallel"),
            "number": pool("omp_get_thread_num"),
            "count": pool("omp_get_num_threads"),
        }
        text = ["declare i64 @llvm.umin.i64(i64, i64)", _NO_LIMIT]
        if found.limits is not None:
            system = ctypes.CDLL(None)
            text[1] = _filled(
                _LIMIT,
                state=self._state.ctypes.data,
                mutex=self._state[2:].ctypes.data,
                lock=ctypes.cast(system.pthread_mutex_lock, ctypes.c_void_p).value,
                unlock=ctypes.cast(system.pthread_mutex_unlock, ctypes.c_void_p).value,
                get=found.limits[0],
                set=found.limits[1],
            )
        for dtype, function in found.products.items():
            text.append(
                _filled(
                    _PARTS + _SHARE,
                    name=dtype,
                    type=_TYPES[dtype],
                    function=function,
                    loads="\n".join(_load(number) for number in range(len(WORDS))),
                    last=len(WORDS) - 1,
                    words=len(WORDS),
                    **places,
                )
            )
        self._library = Library(compile_text("\n".join(text)), list(found.products))
        self.addresses = self._library.addresses


@functools.cache
def wrapper(found: Blas) -> Wrapper:
    """Give the functions that multiply by a BLAS."""
    return Wrapper(found)


def _filled(text: str, **values: object) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def _load(number: int) -> str:
    name = WORDS[number]
    return (
        f"  %{name}_at = getelementptr i64, ptr %words, i64 {number}\n"
        f"  %{name} = load i64, ptr %{name}_at"
    )
