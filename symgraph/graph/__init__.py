"""The expression graph: types, interned values, operations and their registry, the oracle.

`Value` is a node of the graph; identity is equality. `Op` is what a node does, `Graph` a NetworkX
view of everything between inputs and outputs, `interpret` its meaning.
May import `config`, `errors` and `dims`.
"""
