"""The CPU engine: so far the binding of oneDNN; nothing runs on it yet.

May import `lower`, `passes`, `graph` and above.
"""
