"""NVIDIA GPUs through CuPy: memory, modules of generated kernels, launches.

CuPy is optional and imported when a device is opened. May import what backends/ may.
"""
