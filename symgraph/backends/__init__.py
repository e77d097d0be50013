"""Backends: what runs a graph. `reference.py` is the oracle's; engines stand beside it.

May import `lower`, `passes`, `graph` and above.
"""
