"""Nests as CUDA C, plain enough to be compiled for a CPU too, which is how it is tested.

May import what lower/ may.
"""
