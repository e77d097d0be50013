"""The step as one native call: a list of records, run one after another without the GIL.

A record is six words: what it is, a function, its arguments, and three numbers. Kernels whose work
is worth it run on the threads of the OpenMP pool that oneDNN uses too, each on a range of tasks.
Fixed records depend only on variables that the step does not write; they are left out while nobody
changes those. In a loop they depend only on what stays from step to step: the first runs them.

Steps inside a step are records, too: `loop` runs a list again and again, `branch` one of several.
There a WALK copies and then moves both its addresses on, by its last two words; a SET writes a
word, such as the address where a walk begins, and an ADD moves one on.
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

from symgraph.backends.cpu.compiler import Library, compile_text
from symgraph.backends.cpu.onednn import library
from symgraph.errors import BackendError

KERNEL, CALL, COPY, CLEAR, CHECK, WALK, SET, ADD = 0, 1, 2, 3, 4, 5, 6, 7
WORDS = 6  # kind, function, arguments, tasks (or bytes), threads, whether it is fixed

_TEXT = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define internal void @share(ptr %record) {
  %own_at = inttoptr i64 {number} to ptr
  %of_at = inttoptr i64 {count} to ptr
  %own = call i32 %own_at()
  %of = call i32 %of_at()
  %own64 = zext i32 %own to i64
  %of64 = zext i32 %of to i64
  %function_at = getelementptr i64, ptr %record, i64 1
  %function = load ptr, ptr %function_at
  %arguments_at = getelementptr i64, ptr %record, i64 2
  %arguments = load ptr, ptr %arguments_at
  %tasks_at = getelementptr i64, ptr %record, i64 3
  %tasks = load i64, ptr %tasks_at
  %before = mul i64 %tasks, %own64
  %low = udiv i64 %before, %of64
  %next = add i64 %own64, 1
  %until = mul i64 %tasks, %next
  %high = udiv i64 %until, %of64
  call void %function(ptr %arguments, i64 %low, i64 %high)
  ret void
}

"""

_WALK = """
define i64 @{name}(ptr %records, i64 %count) {
start:
  br label %head
head:
  %i = phi i64 [ 0, %start ], [ %next, %done ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %end
body:
  %first = mul i64 %i, 6
  %record = getelementptr i64, ptr %records, i64 %first
  %kind = load i64, ptr %record
  %function_at = getelementptr i64, ptr %record, i64 1
  %function = load ptr, ptr %function_at
  %arguments_at = getelementptr i64, ptr %record, i64 2
  %arguments = load ptr, ptr %arguments_at
  %tasks_at = getelementptr i64, ptr %record, i64 3
  %tasks = load i64, ptr %tasks_at
  %fixed_at = getelementptr i64, ptr %record, i64 5
  %fixed = load i64, ptr %fixed_at
  %is_fixed = icmp ne i64 %fixed, 0
  %skip = and i1 %is_fixed, {skip}
  br i1 %skip, label %done, label %work
work:
  %threads_at = getelementptr i64, ptr %record, i64 4
  %threads = load i64, ptr %threads_at
  switch i64 %kind, label %kernel [ i64 1, label %call
                                    i64 2, label %copy
                                    i64 3, label %clear
                                    i64 4, label %check
                                    i64 5, label %walk
                                    i64 6, label %set
                                    i64 7, label %add ]
kernel:
  %several = icmp sgt i64 %threads, 1
  br i1 %several, label %parallel, label %serial
parallel:
  %wanted = trunc i64 %threads to i32
  %pool = inttoptr i64 {parallel} to ptr
  call void %pool(ptr @share, ptr %record, i32 %wanted, i32 0)
  br label %done
serial:
  call void %function(ptr %arguments, i64 0, i64 %tasks)
  br label %done
call:
  %primitive = load ptr, ptr %arguments
  %stream_at = getelementptr ptr, ptr %arguments, i64 1
  %stream = load ptr, ptr %stream_at
  %given_at = getelementptr ptr, ptr %arguments, i64 2
  %given = load i64, ptr %given_at
  %given32 = trunc i64 %given to i32
  %list_at = getelementptr ptr, ptr %arguments, i64 3
  %list = load ptr, ptr %list_at
  %status = call i32 %function(ptr %primitive, ptr %stream, i32 %given32, ptr %list)
  %failed = icmp ne i32 %status, 0
  br i1 %failed, label %broken, label %done
copy:
  call void @llvm.memcpy.p0.p0.i64(ptr %function, ptr %arguments, i64 %tasks, i1 false)
  br label %done
check:
  %flag = load i8, ptr %function
  %holds = icmp ne i8 %flag, 0
  br i1 %holds, label %done, label %broken
clear:
  call void @llvm.memset.p0.i64(ptr %function, i8 0, i64 %tasks, i1 false)
  br label %done
walk:
  call void @llvm.memcpy.p0.p0.i64(ptr %function, ptr %arguments, i64 %tasks, i1 false)
  %to = getelementptr i8, ptr %function, i64 %threads
  store ptr %to, ptr %function_at
  %from = getelementptr i8, ptr %arguments, i64 %fixed
  store ptr %from, ptr %arguments_at
  br label %done
set:
  store ptr %arguments, ptr %function
  br label %done
add:
  %before = load ptr, ptr %function
  %delta = ptrtoint ptr %arguments to i64
  %behind = getelementptr i8, ptr %before, i64 %delta
  store ptr %behind, ptr %function
  br label %done
done:
  %next = add i64 %i, 1
  br label %head
broken:
  %place = add i64 %i, 1
  ret i64 %place
end:
  ret i64 0
}
"""

_INNER = """
define i32 @loop(ptr %words, ptr %nothing, i32 %unused, ptr %addresses) {
start:
  %begin_at = getelementptr i64, ptr %words, i64 0
  %begin = load ptr, ptr %begin_at
  %begins_at = getelementptr i64, ptr %words, i64 1
  %begins = load i64, ptr %begins_at
  %rows_at = getelementptr i64, ptr %words, i64 2
  %rows = load ptr, ptr %rows_at
  %row_count_at = getelementptr i64, ptr %words, i64 3
  %row_count = load i64, ptr %row_count_at
  %step_at = getelementptr i64, ptr %words, i64 4
  %step = load ptr, ptr %step_at
  %count_at = getelementptr i64, ptr %words, i64 5
  %count = load i64, ptr %count_at
  %keep_at = getelementptr i64, ptr %words, i64 6
  %keep = load ptr, ptr %keep_at
  %keeps_at = getelementptr i64, ptr %words, i64 7
  %keeps = load i64, ptr %keeps_at
  %end_at = getelementptr i64, ptr %words, i64 8
  %end = load ptr, ptr %end_at
  %ends_at = getelementptr i64, ptr %words, i64 9
  %ends = load i64, ptr %ends_at
  %most_at = getelementptr i64, ptr %words, i64 10
  %most = load i64, ptr %most_at
  %going_at = getelementptr i64, ptr %words, i64 11
  %going = load ptr, ptr %going_at
  %always = icmp eq ptr %going, null
  %began = call i64 @run(ptr %begin, i64 %begins)
  br label %head
head:
  %t = phi i64 [ 0, %start ], [ %next, %again ]
  %more = icmp ult i64 %t, %most
  br i1 %more, label %ask, label %finish
ask:
  br i1 %always, label %body, label %look
look:
  %flag = load i8, ptr %going
  %goes = icmp ne i8 %flag, 0
  br i1 %goes, label %body, label %finish
body:
  %brought = call i64 @run(ptr %rows, i64 %row_count)
  %is_first = icmp eq i64 %t, 0
  %walk = select i1 %is_first, ptr @run, ptr @repeat
  %failed = call i64 %walk(ptr %step, i64 %count)
  %bad = icmp ne i64 %failed, 0
  br i1 %bad, label %broken, label %again
again:
  %kept = call i64 @run(ptr %keep, i64 %keeps)
  %next = add i64 %t, 1
  br label %head
finish:
  %ended = call i64 @run(ptr %end, i64 %ends)
  ret i32 0
broken:
  ret i32 1
}

define i32 @branch(ptr %words, ptr %nothing, i32 %unused, ptr %addresses) {
start:
  %count = load i64, ptr %words
  %which_at = getelementptr i64, ptr %words, i64 1
  %which = load ptr, ptr %which_at
  %asked = load i32, ptr %which
  %wide = sext i32 %asked to i64
  %last = sub i64 %count, 1
  %under = icmp slt i64 %wide, 0
  %low = select i1 %under, i64 0, i64 %wide
  %over = icmp sgt i64 %low, %last
  %chosen = select i1 %over, i64 %last, i64 %low
  %twice = mul i64 %chosen, 2
  %place = add i64 %twice, 2
  %records_at = getelementptr i64, ptr %words, i64 %place
  %records = load ptr, ptr %records_at
  %length_at = getelementptr i64, ptr %records_at, i64 1
  %length = load i64, ptr %length_at
  %failed = call i64 @run(ptr %records, i64 %length)
  %bad = icmp ne i64 %failed, 0
  %status = zext i1 %bad to i32
  ret i32 %status
}
"""


class Driver:
    """The compiled driver and the pool of threads it uses."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self.pool = pool = _pool()  # gives the address of a function of the OpenMP runtime
        walks = [
            _WALK.replace("{name}", name).replace("{skip}", skip)
            for name, skip in (("run", "false"), ("repeat", "true"))
        ]
        text = "\n".join([_TEXT, *walks, _INNER]).replace("{parallel}", str(pool("GOMP_parallel")))
        text = text.replace("{number}", str(pool("omp_get_thread_num")))
        text = text.replace("{count}", str(pool("omp_get_num_threads")))
        self._library = Library(compile_text(text), ["run", "repeat", "loop", "branch"])
        self.loop = self._library.addresses["loop"]  # words: see `runtime/inner.py`
        self.branch = self._library.addresses["branch"]
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
        self.run = kind(self._library.addresses["run"])
        self.repeat = kind(self._library.addresses["repeat"])  # leaves out what is fixed

    def check_process(self) -> None:
        """Raise in a process that was forked off the one whose threads these are."""
        if os.getpid() != self._process:
            raise BackendError(
                "cpu: this process was forked after compiled code had run; its threads stayed with "
                "the parent.",
                fix='start workers with multiprocessing.get_context("spawn")',
            )


@functools.cache
def driver() -> Driver:
    """Give the driver of this process."""
    return Driver()


def _pool() -> Any:
    """Give what finds functions of the OpenMP runtime: oneDNN's own where that is loaded."""
    if not library.status().problem:
        openmp = library.load().openmp
        if openmp is not None:
            return openmp.address
    runtime = ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
    return lambda name: ctypes.cast(getattr(runtime, name), ctypes.c_void_p).value
