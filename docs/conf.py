"""How Sphinx builds these pages: Markdown through MyST, formulas through MathJax, nothing else."""

from __future__ import annotations

import re
from pathlib import Path

_VERSION = Path(__file__).parent.parent / "symgraph" / "_version.py"

project = "symgraph"
author = "the symgraph developers"
copyright = author
release = re.findall(r'"([\d.]+[^"]*)"', _VERSION.read_text(encoding="utf-8"))[0]

extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
exclude_patterns = ["_build"]
highlight_language = "none"  # only what says that it is Python is coloured as Python

html_theme = "alabaster"
html_title = f"symgraph {release}"
html_theme_options = {
    "description": "Symbolic tensor graphs that you hold",
    "fixed_sidebar": True,
    "page_width": "1100px",
    "sidebar_width": "220px",
}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_show_sourcelink = False
html_copy_source = False
