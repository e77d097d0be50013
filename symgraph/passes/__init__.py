"""Passes: functions from a graph to replacements, in named stages, ordered by NetworkX.

One file for each pass; `manager.py` runs them. May import `autodiff`, `cost` and above.
"""
