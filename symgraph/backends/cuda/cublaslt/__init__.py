"""cuBLASLt: products of matrices, queued in any stream and so in captured graphs too.

CuPy's own products refuse to be captured. May import what backends/ may.
"""
