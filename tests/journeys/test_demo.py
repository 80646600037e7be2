"""``brewair demo`` as its users start it: the headless check, re-judging what it left behind, and the live program."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from cli.broker import free_port
from cli.story import STEPS
from tests.servers import wait_until


def _brewair(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BREWAIR_")}
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**clean, **environment}, timeout=240)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """The folder of a played story, and its summary."""
    folder = tmp_path_factory.mktemp("demo") / "state"
    done = _brewair("demo", "--check", "--json", "--keep", str(folder))
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_the_whole_story_happens(played: tuple[Path, dict[str, object]]) -> None:
    """Every step, in the order of the story, on the embedded broker and SQLite."""
    _, summary = played
    steps = summary["steps"]
    assert isinstance(steps, list)
    assert [step["step"] for step in steps] == [key for key, _ in STEPS]
    assert all(step["ok"] for step in steps)
    times = [step["at_s"] for step in steps]
    assert times == sorted(times)
    assert summary["closed"] is True
    print(f"\nthe story took {summary['wall_s']} s")


@pytest.mark.parametrize(("run", "outcome"), [("1", "failed"), ("2", "passed")])
def test_a_stored_run_is_judged_again_with_the_same_verdict(
    played: tuple[Path, dict[str, object]], run: str, outcome: str
) -> None:
    """From its sealed evidence and its own copies of plan and card."""
    done = _brewair("judge", "--run", run, "--json", BREWAIR_DATA_DIR=str(played[0]))
    again = json.loads(done.stdout)
    assert (done.returncode, again["verdict"], again["sealed"], again["same"]) == (0, outcome, outcome, True)


def test_a_demo_that_cannot_have_its_port_says_so() -> None:
    """One clear line and exit status 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = _brewair("demo", "--bind", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 2
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_live_demo_serves_pages_and_ends_on_ctrl_c() -> None:
    """It prints an address and log-ins, answers there, and leaves no process behind."""
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BREWAIR_")}
    command = [sys.executable, "-u", "-m", "cli.main", "demo", "--bind", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean, start_new_session=True) as demo:
        assert demo.stdout is not None
        banner = ""
        while "Ctrl-C" not in banner:
            line = demo.stdout.readline()
            assert line, banner
            banner += line
        assert re.search(r"password for everybody: \S+", banner)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/login", timeout=30) as page:
            text = page.read().decode()
        assert "演示时钟" in text or "brewair" in text
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=60) == 0
    wait_until(lambda: not _alive(demo.pid), timeout_s=30, what="the end of the demo's processes")


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
