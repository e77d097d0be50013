"""The count of tests per area: what is counted where, and that a fall is an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).parent.parent / ".ci"

REPORT = """<testsuites><testsuite>
<testcase classname="tests.dims.test_a" name="one"/>
<testcase classname="tests.dims.test_a.TestIt" name="two"/>
<testcase classname="tests.dims.test_a" name="three"><failure/></testcase>
<testcase classname="tests.test_top" name="four"/>
<testcase classname="tests.test_top.TestIt" name="five"><skipped/></testcase>
<testcase classname="" name="tests.nn.test_broken"><error/></testcase>
<testcase classname="docs.test_tutorial" name="six"/>
</testsuite></testsuites>"""
COUNTS = {"(top)": 1, "dims": 2, "docs": 1}


def areas(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "report.xml").write_text(REPORT)
    return subprocess.run(
        [sys.executable, str(CI / "areas.py"), "report.xml", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_counts_and_total(tmp_path: Path) -> None:
    assert areas(tmp_path, "--total").stdout == "4 passed, 2 failed, 1 skipped\n"
    done = areas(tmp_path, "--floor", "floor.json", "--write")
    assert done.returncode == 0
    assert json.loads((tmp_path / "floor.json").read_text()) == COUNTS
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows == [
        ["area", "passed", "failed", "skipped", "floor"],
        ["(top)", "1", "0", "1", "1"],
        ["dims", "2", "1", "0", "2"],
        ["docs", "1", "0", "0", "1"],
        ["nn", "0", "1", "0", "none"],
    ]


@pytest.mark.parametrize(
    ("floor", "sentence"),
    [
        (COUNTS, ""),
        ({}, ""),
        ({**COUNTS, "dims": 1}, ""),
        ({**COUNTS, "dims": 3}, "dims: 2 tests passed, the floor is 3"),
        ({**COUNTS, "ops": 1}, "ops: 0 tests passed, the floor is 1"),
        ({"(top)": 2}, "(top): 1 tests passed, the floor is 2"),
    ],
)
def test_a_fall_is_an_error(tmp_path: Path, floor: dict[str, int], sentence: str) -> None:
    (tmp_path / "floor.json").write_text(json.dumps(floor))
    done = areas(tmp_path, "--floor", "floor.json")
    assert done.returncode == bool(sentence)
    assert sentence in done.stdout
    assert (".ci/run --write-floor" in done.stdout) == bool(sentence)


def test_the_lowest_versions_are_those_of_setup() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import lowest; print(*lowest.pins())"],
        cwd=CI,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split()[:2] == ["numpy==2.0", "networkx==3.2"]
