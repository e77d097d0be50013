"""The CPU engine: compiler, driver, threads, and the libraries that it asks (oneDNN, BLAS).

May import `lower`, `passes`, `graph` and above.
"""
