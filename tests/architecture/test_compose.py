"""docker-compose.yml, Dockerfile and the commands that make the secrets agree with one another and with the code.

No container engine is needed: what is checked is the structure, by the published schema of compose files where that
is installed, and every name by the place that defines it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import subprocess
import sys
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.devices import GATEWAY, SIMULATOR
from domain.settings import CONFIG, SETTINGS

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
SECRETS_README = ROOT / "secrets" / "README.md"


@cache
def compose() -> dict[str, Any]:
    parsed = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    assert isinstance(parsed, dict)
    return parsed


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def programs() -> list[str]:
    """The services that run our own image."""
    return [name for name, service in services().items() if "build" in service]


def interpolated(value: object) -> str:
    """A value as compose sees it when the environment sets nothing: ``${NAME:-default}`` is its default."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
    assert "${" not in text, f"{value}: a variable without a default"
    return text


def brewair_commands() -> list[tuple[str, ...]]:
    """Every command line of ``brewair`` in the file: what containers run, and their health checks."""
    commands = []
    for name in programs():
        commands.append(tuple(services()[name]["command"]))
        test = services()[name].get("healthcheck", {}).get("test", [])
        if test[:2] == ["CMD", "brewair"]:
            commands.append(tuple(test[2:]))
    return commands


def test_the_file_follows_the_published_schema() -> None:
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed (extra: test)")
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_has_the_services_and_only_the_simulator_is_a_demo() -> None:
    assert set(services()) == {
        "mosquitto", "broker_accounts", "demo_accounts", "influxdb", "postgres", "gateway", "portal", "device_sim",
    }  # fmt: skip
    demo = {name: service["profiles"] for name, service in services().items() if "profiles" in service}
    assert demo == {"device_sim": ["demo"], "demo_accounts": ["demo"]}


@pytest.mark.parametrize("name", programs())
def test_every_setting_is_in_the_list_and_usable(name: str) -> None:
    settings = {k: v for k, v in services()[name]["environment"].items() if k.startswith("BREWAIR_")}
    assert settings
    for setting, value in settings.items():
        assert setting in SETTINGS or setting == CONFIG, f"{name}: no setting {setting}"
        text = interpolated(value)
        if text.startswith("/run/secrets/"):
            assert text.removeprefix("/run/secrets/") in services()[name]["secrets"], f"{name}: {setting}"
        else:
            SETTINGS[setting].parse(text)


@pytest.mark.parametrize("command", brewair_commands(), ids=" ".join)
def test_every_command_exists_with_its_options(command: tuple[str, ...]) -> None:
    words = list(takewhile(lambda word: not word.startswith("-"), command))
    asked = subprocess.run(
        [sys.executable, "-m", "cli.main", *words, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    for option in (word.partition("=")[0] for word in command if word.startswith("--")):
        assert option in asked.stdout, f"brewair {' '.join(words)} has no {option}"


def test_every_volume_is_declared_and_used() -> None:
    mounted = [str(volume).split(":")[0] for service in services().values() for volume in service.get("volumes", [])]
    named = {source for source in mounted if not source.startswith(".")}
    assert named == set(compose()["volumes"])
    for source in mounted:
        if source.startswith("./") and not source.startswith("./secrets/"):
            assert (ROOT / source).exists(), source


def test_every_network_and_dependency_is_declared() -> None:
    used = {network for service in services().values() for network in service["networks"]}
    assert used == set(compose()["networks"])
    for name, service in services().items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services(), f"{name} waits for {other}"
            if how["condition"] == "service_completed_successfully":
                assert services()[other]["restart"] == "on-failure", f"{other} is started again for ever"
            else:
                assert "test" in services()[other]["healthcheck"], f"{other} never says that it is healthy"


def test_every_service_says_whether_it_is_healthy() -> None:
    for name, service in services().items():
        check = service["healthcheck"]
        assert check.get("disable") is True or {"test", "interval", "timeout", "retries"} <= set(check), name


def test_every_secret_is_declared_used_and_a_file_that_git_ignores() -> None:
    used = {secret for service in services().values() for secret in service.get("secrets", [])}
    assert used == set(compose()["secrets"])
    files = [secret["file"] for secret in compose()["secrets"].values()]
    assert all(re.fullmatch(r"\./secrets/[\w.]+", file) for file in files), files
    for path in files:
        ignored = subprocess.run(
            ["git", "check-ignore", "-q", path], cwd=ROOT, capture_output=True, timeout=30, check=False
        )
        if ignored.returncode == 128:
            pytest.skip("not a git checkout")
        assert ignored.returncode == 0, f"git would take {path}"


def test_no_password_is_written_down() -> None:
    secretive = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|_KEY", re.IGNORECASE)
    for name, service in services().items():
        for key, value in service.get("environment", {}).items():
            if secretive.search(key):
                assert key.endswith("_FILE"), f"{name}: {key} is not a file"
                assert str(value).startswith("/run/secrets/"), f"{name}: {key}"
    for path in (COMPOSE, DOCKERFILE):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", text), f"{path.name} has a URL with a password"


def test_every_account_of_a_program_is_set_up_with_the_password_it_has() -> None:
    for program, accounts, user, option in (
        ("gateway", "broker_accounts", GATEWAY, "--gateway-password-file"),
        ("device_sim", "demo_accounts", SIMULATOR, "--simulator-password-file"),
    ):
        environment = services()[program]["environment"]
        assert environment["BREWAIR_MQTT_USER"] == user
        assert f"{option}={environment['BREWAIR_MQTT_PASSWORD_FILE']}" in services()[accounts]["command"]


def test_the_image_is_not_root_and_copies_what_exists() -> None:
    lines = DOCKERFILE.read_text(encoding="utf-8").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users, "no USER"
    assert users[-1].split(":")[0] not in ("root", "0")
    for line in lines:
        if line.startswith("COPY "):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), f"Dockerfile copies {source}"
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignore[0] == "*", ".dockerignore lets through only what is named"
    assert not any("secrets" in line for line in ignore if line.startswith("!"))


def test_the_documented_commands_make_every_secret_and_change_none_when_run_again(tmp_path: Path) -> None:
    """Runs the block of secrets/README.md."""
    block = re.search(r"```bash\n(.*?)```", SECRETS_README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    checkout = tmp_path / "checkout"
    checkout.mkdir()

    def run() -> dict[str, str]:
        subprocess.run(
            ["bash", "-c", block[1]],
            cwd=checkout,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            check=True,
            timeout=60,
        )
        return {
            str(path.relative_to(checkout)): path.read_text(encoding="utf-8")
            for path in (checkout / "secrets").rglob("*")
            if path.is_file()
        }

    made = run()
    for secret in compose()["secrets"].values():
        assert len(made[secret["file"].removeprefix("./")]) >= 32, f"{secret['file']} is not made"
    plain = [text for name, text in made.items() if not name.startswith("secrets/brewair")]
    assert len(set(plain)) == len(plain), "two secrets are the same"
    assert made["secrets/postgres_password"] in made["secrets/brewair.toml"]
    assert stat.S_IMODE((checkout / "secrets").stat().st_mode) == 0o700
    assert run() == made


def test_what_is_not_encrypted_is_published_on_this_machine_only() -> None:
    published = {name: [interpolated(one) for one in service.get("ports", ())] for name, service in services().items()}
    assert published["mosquitto"]
    assert all(one.startswith("127.0.0.1:") for ports in published.values() for one in ports), published


def test_the_page_on_scaling_names_configuration_files_that_exist() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    rows = [line for line in page.partition("## Configuration files")[2].splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([\w./-]+/[\w.-]+)`", row)]
    assert len(named) >= 6
    assert [name for name in named if not any((ROOT / folder / name).exists() for folder in (".", "docs"))] == []
