"""oneDNN through its C API: convolutions, products, pooling and reorders, without a compiler.

`library` finds and loads it, `descriptors` tell how tensors lie in memory, `primitives` make
computations, `calls` bind them to addresses so that native code can run them, and `operations` says
which computations an operation of a graph is. What the library says about its types stands in
`declarations` and `tags`.

May import `errors`, `config`, `dims`, `graph` and `lower` of symgraph, and `cffi` only inside a
function: neither it nor oneDNN is needed to import this folder.
"""
