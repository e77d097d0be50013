"""Count the tests that passed in each folder of tests/, and hold the counts against a floor.

areas.py REPORT.xml... --floor floor.json           compare; a fall is an error
areas.py REPORT.xml... --floor floor.json --write   make these counts the floor
areas.py REPORT.xml... --total                      one line: N passed, N failed, N skipped
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from xml.etree import ElementTree

TOP = "(top)"
KINDS = ("passed", "failed", "skipped")
LOWER = """
If tests were taken away on purpose, or new ones shall count from now on, run
`.ci/run --write-floor` and commit .ci/floor.json with the reason. Otherwise find out why they no
longer run."""


def area(case: ElementTree.Element) -> str:
    """Name the folder below tests/ that a case of a JUnit report stands in."""
    # A file that cannot be imported has no class name, and its own as the name.
    parts = (case.get("classname") or case.get("name", "")).split(".")
    if parts[0] != "tests":
        return parts[0]
    return TOP if len(parts) < 2 or parts[1].startswith("test_") else parts[1]


def kind(case: ElementTree.Element) -> str:
    """Tell how a case ended."""
    ends = {child.tag for child in case}
    if ends & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in ends else "passed"


def count(reports: list[Path]) -> dict[str, Counter[str]]:
    """Count the cases of all reports by area and end."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            counts[area(case)][kind(case)] += 1
    return dict(sorted(counts.items()))


def compare(counts: dict[str, Counter[str]], floor: dict[str, int]) -> list[str]:
    """Print the table and give a sentence for every area that fell below its floor."""
    print(f"{'area':<14}{'passed':>8}{'failed':>8}{'skipped':>9}{'floor':>8}")
    for name in sorted({*counts, *floor}):
        row = counts.get(name, Counter())
        shown = floor.get(name, "none")
        print(f"{name:<14}" + f"{row['passed']:>8}{row['failed']:>8}{row['skipped']:>9}{shown:>8}")
    return [
        f"{name}: {counts.get(name, Counter())['passed']} tests passed, the floor is {least}"
        for name, least in floor.items()
        if counts.get(name, Counter())["passed"] < least
    ]


def total(counts: dict[str, Counter[str]]) -> str:
    """Give the closing line."""
    whole = sum(counts.values(), Counter())
    line = f"{whole['passed']} passed, {whole['failed']} failed"
    return f"{line}, {whole['skipped']} skipped" if whole["skipped"] else line


def main() -> int:
    """Count, then compare, write or sum up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", nargs="*", type=Path)
    parser.add_argument("--floor", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--total", action="store_true")
    given = parser.parse_args()
    counts = count(given.reports)
    if given.total:
        print(total(counts))
        return 0
    if given.floor is None:
        parser.error("--floor or --total is needed")
    if given.write:
        floor = {name: row["passed"] for name, row in counts.items() if row["passed"]}
        given.floor.write_text(json.dumps(floor, indent=2) + "\n", encoding="utf-8")
        compare(counts, floor)
        return 0
    fallen = compare(counts, json.loads(given.floor.read_text(encoding="utf-8")))
    for sentence in fallen:
        print(sentence)
    if fallen:
        print(LOWER)
    return int(bool(fallen))


if __name__ == "__main__":
    sys.exit(main())
