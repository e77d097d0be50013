"""Derivatives and batches as graphs: forward and reverse mode of any order, and `vmap`.

Each operation gives its own rule (`Op.vjp`), from which the others follow unless it gives them too
(`Op.jvp`, `Op.batch`); this folder walks. May import `ops` and above.
"""
