"""Derivatives as graphs: reverse mode of any order, graph to graph.

Each operation gives its own rule (`Op.vjp`); this folder only walks. May import `graph` and above.
"""
