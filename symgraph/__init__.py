"""symgraph: a symbolic graph you can hold, differentiate, rewrite and run fast."""

from symgraph._version import __version__
