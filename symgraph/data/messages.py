"""What a loader and its process say to each other: small packets, none of which is read in part.

Asked is an ORDER: a batch with its number, the slot that it goes to, its epoch and its number of
images; with a count of FORGET, to leave out what has not been begun up to this number. Answered,
by a first letter: MADE, LEFT or FAILED for one order; BROKEN where the process cannot go on.
"""

from __future__ import annotations

import contextlib
import pickle
import struct
import traceback

ORDER = struct.Struct("<qqQq")  # number, slot, epoch, count
ANSWER = struct.Struct("<cqd")  # kind, number, seconds
MADE, LEFT, FAILED, BROKEN = b"M", b"L", b"F", b"B"
FORGET = -1
PACKET = 1 << 17  # bytes of the longest
_LONGEST = 1 << 13  # characters of a text


def said(error: BaseException) -> str:
    """Return an exception as one text."""
    return f"{type(error).__name__}: {error}"[:_LONGEST]


def pack_error(error: BaseException) -> bytes:
    """Return what an exception says, its traceback, and itself where it can be sent."""
    trace = "".join(traceback.format_exception(error))[-_LONGEST:]
    itself = b""
    with contextlib.suppress(Exception):
        packed = pickle.dumps(error)
        pickle.loads(packed)  # some can be packed and not unpacked
        itself = packed if len(packed) < PACKET // 4 else b""
    return pickle.dumps((said(error), trace, itself))


def unpack_error(packed: bytes) -> tuple[str, BaseException | None]:
    """Return what an exception said, and the exception, with its traceback as a note."""
    text, trace, itself = pickle.loads(packed)
    error: BaseException | None = None
    with contextlib.suppress(Exception):
        error = pickle.loads(itself) if itself else None
    if error is not None:
        error.add_note(f"In the loader process:\n{trace}")
    return str(text), error
