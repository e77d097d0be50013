"""Settings: precedence, where a value came from, and what is refused."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import pytest

import symgraph
from symgraph.config import MOST_SETTINGS, PREFIX, Config, Setting, config
from symgraph.errors import ConfigError, SymgraphError, UnknownNameError


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(variable)
    config.reset()
    yield
    monkeypatch.undo()
    config.reset()
    config.set(verify=True)


def names() -> list[str]:
    return list(config.values())


def test_there_are_few_settings_and_each_has_a_meaning() -> None:
    assert 0 < len(names()) <= MOST_SETTINGS
    for name in names():
        setting = getattr(Config, name)
        assert isinstance(setting, Setting)
        assert len(setting.meaning) > 10
        assert setting.variable == f"SYMGRAPH_{name.upper()}"


def test_defaults() -> None:
    assert config.values() == {
        "float_dtype": "float32",
        "verify": False,
        "rewrites": "real",
        "origins": True,
        "memory_limit": None,
        "seed": None,
        "backend": "auto",
        "precision": "fp32",
        "threads": None,
        "capture": True,
        "onednn": "",
        "cache": "",
    }
    assert {config.where(name) for name in names()} == {"default"}


def test_the_package_shows_the_settings_not_the_module() -> None:
    assert symgraph.config is config


def test_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (config.seed, config.where("seed")) == (None, "default")
    monkeypatch.setenv("SYMGRAPH_SEED", "1")
    config.reset()
    assert (config.seed, config.where("seed")) == (1, "SYMGRAPH_SEED")
    config.set(seed=2)
    assert (config.seed, config.where("seed")) == (2, "config.set()")
    with config(seed=3):
        assert (config.seed, config.where("seed")) == (3, "with config()")
        assert config.pick("seed", 4) == 4
        assert config.pick("seed") == 3
        config.set(seed=5)
        assert config.seed == 3
    assert config.seed == 5
    config.reset()
    assert config.seed == 1


def test_contexts_nest_and_end_with_an_exception() -> None:
    with config(verify=True):
        with config(seed=7):
            assert config.verify
            assert config.seed == 7
        assert config.seed is None
        with contextlib.suppress(KeyError), config(verify=False):
            assert not config.verify
            raise KeyError
        assert config.verify
    assert not config.verify


def test_a_context_belongs_to_its_thread_and_set_to_the_process() -> None:
    seen: list[object] = []

    def look() -> None:
        seen.append((config.verify, config.seed))

    config.set(seed=11)
    with config(verify=True):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        copy_context().run(look)
    assert seen == [(False, 11), (True, 11)]


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("SYMGRAPH_VERIFY", "1", "verify", True),
        ("SYMGRAPH_VERIFY", "Yes", "verify", True),
        ("SYMGRAPH_ORIGINS", "off", "origins", False),
        ("SYMGRAPH_ORIGINS", "0", "origins", False),
        ("SYMGRAPH_FLOAT_DTYPE", "bfloat16", "float_dtype", "bfloat16"),
        ("SYMGRAPH_MEMORY_LIMIT", "8 GB", "memory_limit", 8 * 10**9),
        ("SYMGRAPH_MEMORY_LIMIT", "512", "memory_limit", 512),
        ("SYMGRAPH_MEMORY_LIMIT", "None", "memory_limit", None),
        ("SYMGRAPH_SEED", "18446744073709551615", "seed", 2**64 - 1),
        ("SYMGRAPH_SEED", "none", "seed", None),
        ("SYMGRAPH_THREADS", "1", "threads", 1),
        ("SYMGRAPH_THREADS", "None", "threads", None),
        ("SYMGRAPH_ONEDNN", "/opt/libdnnl.so.3", "onednn", "/opt/libdnnl.so.3"),
        ("SYMGRAPH_ONEDNN", "None", "onednn", "none"),
        ("SYMGRAPH_CACHE", "/var/cache/me", "cache", "/var/cache/me"),
        ("SYMGRAPH_CACHE", "OFF", "cache", "off"),
        ("SYMGRAPH_CACHE", "", "cache", ""),
    ],
)
def test_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, name: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    config.reset()
    assert getattr(config, name) == value
    assert config.where(name) == variable


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("SYMGRAPH_VERIFY", "maybe", "`verify` must be one of 1, true, yes, on, 0"),
        ("SYMGRAPH_VERIFY", "", "got '' from SYMGRAPH_VERIFY"),
        ("SYMGRAPH_SEED", "-1", "`seed` must be None or an integer from 0 to 2**64 - 1"),
        ("SYMGRAPH_SEED", "1.5", "got '1.5' from SYMGRAPH_SEED"),
        ("SYMGRAPH_THREADS", "many", "`threads` must be None or an integer from 1 to"),
        (
            "SYMGRAPH_THREADS",
            "0",
            "got '0' from SYMGRAPH_THREADS.\n  fix: threads is how many threads a compiled",
        ),
        (
            "SYMGRAPH_MEMORY_LIMIT",
            "8 GBit",
            "`memory_limit` must be None or bytes as an integer >= 0",
        ),
        ("SYMGRAPH_FLOAT_DTYPE", "float8", "`float_dtype` must be one of float32, float64"),
        ("SYMGRAPH_VERFY", "1", "SYMGRAPH_VERFY names no setting"),
        ("SYMGRAPH_VERFY", "1", "fix: did you mean SYMGRAPH_VERIFY?"),
        ("SYMGRAPH_verify", "1", "fix: did you mean SYMGRAPH_VERIFY?"),
        ("SYMGRAPH_", "1", "there are: SYMGRAPH_FLOAT_DTYPE, SYMGRAPH_VERIFY"),
    ],
)
def test_a_wrong_environment_is_an_error_at_every_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, message: str
) -> None:
    monkeypatch.setenv(variable, text)
    config.reset()
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            _ = config.origins
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"verify": 1}, "config: `verify` must be True or False: got 1 from {source}."),
        ({"verify": "yes"}, "`verify` must be True or False: got 'yes'"),
        ({"seed": True}, "`seed` must be None or an integer"),
        ({"seed": 2**64}, "got 18446744073709551616 from {source}"),
        ({"seed": 1.0}, "`seed` must be None or an integer"),
        ({"seed": "1"}, "`seed` must be None or an integer"),
        ({"threads": 0}, "None or an integer from 1 to"),
        ({"threads": -1}, "got -1 from {source}"),
        ({"threads": True}, "`threads` must be None or an integer"),
        ({"threads": 1.0}, "got 1.0 from {source}"),
        ({"threads": "1"}, "got '1' from {source}"),
        ({"memory_limit": -1}, 'or a text such as "8 GB" or "512 MiB": got -1 from {source}'),
        ({"memory_limit": 1.5}, "`memory_limit` must be None or bytes"),
        ({"float_dtype": "int32"}, "must be one of float32, float64, float16, bfloat16"),
        ({"float_dtype": float}, "got <class 'float'>"),
        ({"onednn": 3}, "`onednn` must be the path of a file"),
        ({"onednn": b"/opt"}, "`onednn` must be the path of a file"),
        ({"onednn": "a\0b"}, "`onednn` must be the path of a file"),
        ({"cache": False}, '`cache` must be the path of a folder, "off", or'),
        ({"verfy": True}, "there is no setting `verfy`"),
        ({"verfy": True}, "fix: did you mean verify?"),
        (
            {"zzz": True},
            "there are: float_dtype, verify, rewrites, origins, memory_limit, "
            "backend, precision, threads, capture, seed, onednn, cache",
        ),
    ],
)
def test_a_wrong_setting_is_an_error_before_anything_changes(
    settings: dict[str, object], message: str
) -> None:
    before = config.values()
    with pytest.raises(ConfigError) as caught:
        config.set(origins=False, **settings)
    assert message.format(source="config.set()") in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        config(origins=False, **settings)
    assert message.format(source="with config()") in str(caught.value)
    assert config.values() == before


def test_a_path_may_be_a_path_object() -> None:
    config.set(onednn=Path("/opt/libdnnl.so.3"), cache=Path("/var/cache"))
    assert config.onednn == "/opt/libdnnl.so.3"
    assert config.cache == "/var/cache"


def test_an_argument_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"got 'x' from an argument"):
        config.pick("seed", "x")
    with pytest.raises(ConfigError, match=r"no setting `sede`"):
        config.pick("sede", 1)


def test_an_unknown_attribute_is_also_an_attribute_error() -> None:
    with pytest.raises(ConfigError, match=r"there is no setting `verfy`") as caught:
        _ = config.verfy
    assert isinstance(caught.value, UnknownNameError | AttributeError)
    assert isinstance(caught.value, SymgraphError)
    assert not hasattr(config, "verfy")
    with pytest.raises(ConfigError, match=r"no setting `verfy`"):
        config.where("verfy")


def test_assignment_says_what_to_write_instead() -> None:
    with pytest.raises(ConfigError, match=r"fix: config.set\(verify=True\)"):
        config.verify = True
    with pytest.raises(ConfigError, match=r"did you mean verify\?"):
        config.verfy = True
    assert not config.verify


def test_the_table_shows_every_value_and_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAPH_ORIGINS", "0")
    config.reset()
    config.set(seed=12)
    with config(verify=True):
        header, *rows = repr(config).splitlines()
    assert header.split() == ["setting", "value", "from", "is"]
    cells = {row.split()[0]: row for row in rows}
    assert list(cells) == names()
    assert "True   " in cells["verify"]
    assert "with config()" in cells["verify"]
    assert "False" in cells["origins"]
    assert "SYMGRAPH_ORIGINS" in cells["origins"]
    assert "12" in cells["seed"]
    assert "config.set()" in cells["seed"]
    assert "default" in cells["float_dtype"]
    columns = {row.index(getattr(Config, name).meaning) for name, row in cells.items()}
    assert columns == {header.index(" is") + 1}


def test_values_can_be_set_elsewhere() -> None:
    config.set(seed=1, origins=False)
    values = config.values()
    config.reset()
    config.set(**values)
    assert config.values() == values


def test_dir_lists_the_settings() -> None:
    assert set(names()) <= set(dir(config))


def test_a_wrong_environment_does_not_break_the_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import symgraph.config; print('imported')"],
        env={**os.environ, "SYMGRAPH_NONSENSE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "imported\n"
