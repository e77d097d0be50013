"""Files: what symgraph writes to a disk and reads back from it.

Checkpoints (`checkpoint.py`) are safetensors files with a JSON document in the header; `atomic.py`
replaces files whole or not at all; `tensorfile.py` and `boundedjson.py` check every byte count,
name and nesting before anything is allocated: a file from outside is hostile until checked.
Functions are safetensors files too (`functionfile.py`), with their graph as a JSON text
(`graphcodec.py`, `attributes.py`); `sg.load` compiles what they hold.
`python -m symgraph.io FILE` prints the document of a checkpoint.

May import: config, errors, dims, graph, ops, autodiff, cost, passes, lower, backends, runtime.
"""

from __future__ import annotations

from symgraph.io.atomic import atomic_file, remove_stale_partials
from symgraph.io.checkpoint import (
    Checkpoint,
    CheckpointHeader,
    check_matches,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    read_checkpoint_header,
    save_checkpoint,
)

__all__ = [
    "Checkpoint",
    "CheckpointHeader",
    "atomic_file",
    "check_matches",
    "latest_checkpoint",
    "list_checkpoints",
    "load_checkpoint",
    "read_checkpoint_header",
    "remove_stale_partials",
    "save_checkpoint",
]
