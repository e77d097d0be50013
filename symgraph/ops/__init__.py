"""The operations, one file for each family; importing this package registers them all.

Each operation is complete in its file: `infer ref vjp expand samples bad`. Files here import
nothing from each other; they meet through `F`. May import `graph` and above.
"""
