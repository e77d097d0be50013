"""The models: each file trains, evaluates and predicts from the command line, and can be imported.

Both ways work, from a checkout and from an installed package::

    python models/alexnet.py --max-steps 3      # as a file, from any folder
    python -m models.alexnet evaluate           # as a module, from the checkout or installed
    from models.alexnet import AlexNet          # as a library

When Python runs a file, it looks for imports beside that file and not one folder up, where `models`
and `symgraph` live. So every model begins with these lines, before its other imports; as a module
they do nothing::

    import sys
    from pathlib import Path

    if not __package__:  # run as a file: find `models` and `symgraph` in this checkout
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

and then imports by full name, `from models.common import commandline`, never `import common`: one
module under two names would be two modules, with two sets of classes.

May import: all of symgraph. What several models share lives in `models/common`.
"""
