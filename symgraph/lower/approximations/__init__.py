"""Bodies of the transcendental scalar operations in terms of the primitive ones.

A compiler without a vector library prints these: polynomials without branches, one for each
operation and float dtype, with a bound of their error (`table.py`). May import graph/ and above.
"""
