"""Every example in a docstring of symgraph and models says what really happens."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("symgraph", "models")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name != "__main__.py" and ">>>" in path.read_text(encoding="utf-8")
]

# An example may show any extra; it is documentation first.
for extra in ("sympy", "PIL", "sklearn", "matplotlib", "rich", "safetensors", "scipy"):
    pytest.importorskip(extra)


def test_there_are_examples() -> None:
    assert "symgraph.config" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.FAIL_FAST)
    assert result.attempted
    assert result.failed == 0
