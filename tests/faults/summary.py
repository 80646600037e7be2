"""The table at the end of a run: what every fault test had acknowledged and what the store held after it.

``excused`` is acknowledged and not stored for a reason that is none of the gateway's: lost by the broker, damaged by the
test, or refused by InfluxDB and in quarantine. ``doubled`` are points of one machine and one time beside the first, ``wrong``
those that hold something else than the machine said. ``MiB`` is the most that any life of the gateway took. What else was
measured stands in the last column: on a machine with other work it decides nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

PROPERTY, RSS, SEEN = "fault", "rss", "seen"
COLUMNS = ("acknowledged", "stored", "excused", "lost", "doubled", "wrong")
FAULTS = frozenset(f"{number:02d}" for number in range(1, 26))
"""The rows of the design's list of faults."""
NEEDS = {"12": "small-disk", "13": "strace"}
"""Those that need what not every machine has; without it they are excused."""
_NAME = re.compile(r"::test_fault_(\d\d)_(\S+)$")


def rows(reports: list[pytest.TestReport]) -> Iterator[tuple[str, ...]]:
    """Number, name, the figures or how it ended, seconds, what was seen; in order of the numbers."""
    named = [(found, report) for report in reports if (found := _NAME.search(report.nodeid))]
    for found, report in sorted(named, key=lambda pair: pair[0].groups()):
        told = dict(report.user_properties)
        tally = told.get(PROPERTY)
        figures = [str(tally[column]) if isinstance(tally, dict) else "" for column in COLUMNS]
        if report.outcome != "passed":
            figures[0] = report.outcome
        seen = "; ".join(str(text) for name, text in report.user_properties if name == SEEN)
        yield found[1], found[2], *figures, str(told.get(RSS, "")), f"{report.duration:.0f}", seen


def missing(reports: list[pytest.TestReport]) -> list[str]:
    """The numbers of which no test was carried out, and should have been."""
    required = os.environ.get("BREWAIR_REQUIRE", "").split(",")
    excused = {number for number, what in NEEDS.items() if what not in required}
    ran = {found[1] for report in reports if report.outcome != "skipped" and (found := _NAME.search(report.nodeid))}
    return sorted(FAULTS - ran - excused)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table where there is something to show."""
    table = list(rows(reports_of(terminalreporter)))
    if not table:
        return
    header = ("no", "fault", *COLUMNS, "MiB", "seconds", "seen")
    widths = [max(len(row[k]) for row in (header, *table)) for k in range(len(header))]
    terminalreporter.section("faults")
    for row in (header, *table):
        cells = [
            cell.ljust(width) if k in (0, 1, len(header) - 1) else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        terminalreporter.write_line("  ".join(cells).rstrip())


def reports_of(terminalreporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    """What became of every test."""
    return [
        report
        for outcome in ("passed", "failed", "skipped")
        for report in terminalreporter.stats.get(outcome, ())
        if isinstance(report, pytest.TestReport) and (report.when == "call" or report.outcome != "passed")
    ]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A whole run that may not do without servers may not do without one of the faults either."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    narrowed = session.config.option.keyword or session.config.option.markexpr or session.config.option.collectonly
    whole = {"tests", "tests/faults"} & {str(one) for one in session.config.args} and not narrowed
    if hasattr(session.config, "workerinput") or terminal is None or not os.environ.get("BREWAIR_REQUIRE") or not whole:
        return
    left_out = missing(reports_of(terminal))
    if left_out and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for number in left_out:
        terminal.write_line(f"fault {number}: no test of it ran", red=True)
