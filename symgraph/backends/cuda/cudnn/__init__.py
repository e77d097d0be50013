"""cuDNN: convolutions in three directions, by graphs of NVIDIA's frontend on plain addresses.

May import what backends/ may.
"""
