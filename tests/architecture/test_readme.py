"""The README says what the code does: settings, dependencies, paths, commands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from cli.main import COMMANDS
from domain.settings import SETTINGS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _name(requirement: str) -> str:
    return re.split(r"[\[><=~!; ]", requirement, maxsplit=1)[0].lower()


def test_every_setting_stands_in_the_readme_with_its_default() -> None:
    """… and the README names no setting that does not exist."""
    for name, setting in SETTINGS.items():
        row = re.search(rf"^\| `{name}` \| (.+?) \|", README, re.MULTILINE)
        assert row, name
        assert row[1].strip("`") == (setting.default or "–"), name
    outside = {"BREWAIR_CONFIG"}
    assert set(re.findall(r"BREWAIR_[A-Z_]+", README)) - outside <= set(SETTINGS)


@pytest.mark.parametrize("requirement", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["postgres"])
def test_every_dependency_is_justified(requirement: str) -> None:
    """Each run-time dependency stands in the table that says why."""
    table = README.split("## Dependencies, and why")[1].split("\n## ")[0]
    assert _name(requirement) in table.lower()


def test_every_path_in_the_readme_exists() -> None:
    """A path in backquotes that looks like one of ours is there."""
    named = re.findall(r"`((?:domain|gateway|portal|device_sim|cli|mosquitto|tests|docs|\.ci)/[^`<\s]*)`", README)
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert named
    missing = [path for path in (*named, *links) if not (ROOT / path).exists()]
    assert not missing


def test_every_command_in_the_readme_exists() -> None:
    """`brewair X` is a command."""
    wanted = set(re.findall(r"`(?:\.venv/bin/)?brewair ([a-z]+)", README))
    assert {"demo", "gateway", "portal", "doctor"} <= wanted
    assert wanted <= set(COMMANDS)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """One test command for people and for CI."""
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert ".venv/bin/python -m pytest\n" in README
    assert re.search(r"\bpython -m pytest\b", ci)
    assert "brewair demo --check" in ci
    assert "brewair demo --check" in README
