"""Keeping memory between steps: on glibc, large arrays then reuse what the process already holds.

Every array over 32 MiB is otherwise mapped, filled with zero pages on first touch, and unmapped
again. AlexNet's update makes a dozen such arrays a step, and two fifths of its time went there.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of glibc's mallopt


def keep_memory() -> bool:
    """Have the allocator keep freed memory for the next step, and tell whether it can.

    It changes the whole process, so a program calls it, never the library. Elsewhere than on glibc
    nothing is changed: the same results, with more page faults.
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # another C library
        return False
    wanted = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 256 << 20))
    return all(set_option(option, value) == 1 for option, value in wanted)
