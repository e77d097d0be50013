"""Running what was compiled: arrays in, sizes bound and guarded, updates written at once.

May import `backends`, `passes`, `autodiff`, `graph` and above.
"""
