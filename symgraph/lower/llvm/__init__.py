"""Loops as text of LLVM IR: explicit vectors, masks for the rest, nothing left to a vectoriser.

types.py has dtypes, registers and literals; writer.py builds a function instruction by
instruction; operations.py has a row for each scalar operation; access.py loads and stores;
kernel.py walks the statements. May import lower/ and what lower/ may.
"""
