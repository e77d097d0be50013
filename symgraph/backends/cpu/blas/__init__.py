"""The BLAS that NumPy carries: products of float32 and float64 where oneDNN has none.

`library` finds it among what is loaded already, `operations` says which products it can compute
and how, `wrapper` is the native code between the driver and it.

May import `errors`, `dims`, `graph` and `lower` of symgraph, and the other files of this engine.
"""
