"""The table at the end of a run: what every fault test had acknowledged and what the store held after it.

``excused`` is acknowledged and not stored for a reason that is none of the gateway's: lost by the broker, damaged by the
test, or refused by InfluxDB and in quarantine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

PROPERTY = "fault"
COLUMNS = ("acknowledged", "stored", "excused", "lost", "doubled")
_NAME = re.compile(r"::test_fault_(\d\d)_(\S+)$")


def rows(reports: list[pytest.TestReport]) -> Iterator[tuple[str, ...]]:
    """Number, name, the figures or how it ended, seconds; in order of the numbers."""
    named = [(found, report) for report in reports if (found := _NAME.search(report.nodeid))]
    for found, report in sorted(named, key=lambda pair: pair[0].groups()):
        told = dict(report.user_properties).get(PROPERTY)
        figures = [str(told[column]) if isinstance(told, dict) else "" for column in COLUMNS]
        if report.outcome != "passed":
            figures[0] = report.outcome
        yield found[1], found[2], *figures, f"{report.duration:.0f}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table where there is something to show."""
    reports = [
        report
        for outcome in ("passed", "failed", "skipped")
        for report in terminalreporter.stats.get(outcome, ())
        if isinstance(report, pytest.TestReport) and (report.when == "call" or report.outcome != "passed")
    ]
    table = list(rows(reports))
    if not table:
        return
    header = ("no", "fault", *COLUMNS, "seconds")
    widths = [max(len(row[k]) for row in (header, *table)) for k in range(len(header))]
    terminalreporter.section("faults")
    for row in (header, *table):
        cells = [
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        terminalreporter.write_line("  ".join(cells).rstrip())
