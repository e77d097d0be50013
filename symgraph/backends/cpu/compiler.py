"""LLVM through llvmlite: text of IR becomes object code, object code becomes functions.

The text holds explicit vectors, so that LLVM's own vectorisers are left out; its other passes,
instruction selection and scheduling are what it is for. Ctrl-C waits for it: llvmlite that is
interrupted between giving something back and noting that it did gives it back twice.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import itertools
import threading
from collections.abc import Sequence
from typing import Any

from symgraph.errors import LoweringError
from symgraph.interrupts import held_interrupt

_serial = itertools.count()
_lock = threading.Lock()  # LLVM's global state is not for several threads


@functools.cache
@held_interrupt()
def machine() -> Any:
    """Give LLVM's description of this CPU."""
    from llvmlite import binding as llvm  # late: llvmlite is optional

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=2,
        reloc="pic",
        codemodel="default",
        jit=True,
    )


@functools.cache
def unavailable() -> str:
    """Tell why native code cannot be made on this machine; empty where it can."""
    if importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed"
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return "the OpenMP runtime libgomp.so.1 is not installed"
    return ""


@functools.cache
@held_interrupt()
def fingerprint() -> str:
    """Give what object code depends on besides its text: the compiler and the CPU."""
    from llvmlite import __version__  # late: llvmlite is optional
    from llvmlite import binding as llvm

    features = llvm.get_host_cpu_features().flatten()
    return f"llvmlite {__version__} llvm {llvm.llvm_version_info} {machine().triple} {features}"


@functools.cache
@held_interrupt()
def has_masks() -> bool:
    """Tell whether this processor has registers for the masks of vectors."""
    from llvmlite import binding as llvm  # late: llvmlite is optional

    return bool(llvm.get_host_cpu_features().get("avx512f"))


@held_interrupt()
def compile_text(text: str) -> bytes:
    """Give the object code of a module. Raises `LoweringError` with LLVM's words."""
    from llvmlite import binding as llvm  # late: llvmlite is optional

    with _lock:
        target = machine()
        try:
            module = llvm.parse_assembly(text)
            module.verify()
        except RuntimeError as problem:
            raise LoweringError(f"llvm: the module is refused: {problem}") from problem
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = False
        options.slp_vectorization = False
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(target, options)
        builder.getModulePassManager().run(module, builder)
        return bytes(target.emit_object(module))


class Library:
    """Object code in memory, with the addresses of its functions; alive as long as this object."""

    @held_interrupt()
    def __init__(self, code: bytes, names: Sequence[str]) -> None:
        from llvmlite import binding as llvm  # late: llvmlite is optional

        with _lock:
            machine()
            builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
            for name in names:
                builder.export_symbol(name)
            self._held = builder.link(_jit(), f"symgraph{next(_serial)}")
            self.addresses = {name: int(self._held[name]) for name in names}


@functools.cache
def _jit() -> Any:
    from llvmlite import binding as llvm  # late: llvmlite is optional

    return llvm.create_lljit_compiler(machine(), use_jit_link=True)
