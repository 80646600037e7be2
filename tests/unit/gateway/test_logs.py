"""The log tells of changes of state, one line each; it holds no payload and no secret."""

from __future__ import annotations

import ast
import io
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import gateway
from domain import wire
from domain.clock import SystemClock
from domain.errors import UnavailableError
from domain.settings import load
from domain.store.session import open_engine
from gateway.__main__ import log_lines
from gateway.ingest.receiver import Batch
from gateway.messages import Message
from gateway.service import Gateway
from tests.servers import wait_until
from tests.unit.gateway.plant import prepare

PASSWORD = "hunter2-of-the-broker"
SECRET_SAMPLE = "recipe-of-the-house-4711"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the program writes, with its own configuration of the log."""
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    before = structlog.get_config()
    log_lines()
    yield written
    structlog.configure(**before)


def test_a_day_with_poison_and_outages_is_a_handful_of_lines_without_payload_or_secret(
    tmp_path: Path, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(f"sqlite:///{tmp_path / 'brewair.db'}").engine.dispose()
    (tmp_path / "password").write_text(PASSWORD)
    given = {
        "BREWAIR_DATA_DIR": str(tmp_path),
        "BREWAIR_MQTT_URL": "mqtt://127.0.0.1:9",
        "BREWAIR_MQTT_USER": "service.gateway",
        "BREWAIR_MQTT_PASSWORD_FILE": str(tmp_path / "password"),
    }
    program = Gateway(load(given), SystemClock(), random.Random(1))
    topic = wire.up("soymilk", "SM-1", "telemetry")
    now = 1_795_000_000_000
    batches = [
        Batch.of([Message(topic, b'{"ts":%d,"recipe":"%s"}' % (now + n, SECRET_SAMPLE.encode()), now + n)])
        for n in range(20)
    ] + [Batch.of([Message(topic, b'{"%s' % SECRET_SAMPLE.encode(), now)]) for _ in range(20)]
    monkeypatch.setattr(program.receiver, "receive", lambda _s: batches.pop() if batches else Batch())
    monkeypatch.setattr(program.receiver, "ack", lambda _batch: None)
    failures = {"telemetry": 5, "sql": 3}

    def failing(what: str, call: object, error: Exception) -> object:
        def wrapped(*arguments: object, **more: object) -> object:
            if failures[what] > 0:
                failures[what] -= 1
                raise error
            return call(*arguments, **more)  # type: ignore[operator]

        return wrapped

    away = UnavailableError("away", retry_after=0.01)
    monkeypatch.setattr(
        program.pipeline.telemetry, "write", failing("telemetry", program.pipeline.telemetry.write, away)
    )
    monkeypatch.setattr(program.pipeline, "refresh_registry", failing("sql", program.pipeline.refresh_registry, away))
    stop = threading.Event()
    thread = threading.Thread(target=program.run, args=(stop,))
    thread.start()
    try:
        wait_until(
            lambda: not batches and program.pipeline.writer.stored >= 20 and program.pipeline.detection.decoded >= 20,
            timeout_s=60,
            what="everything to be done",
        )
    finally:
        stop.set()
        thread.join(30)
    written = lines.getvalue()
    events = [json.loads(line)["event"] for line in written.splitlines()]
    assert events[0] == "gateway_started"
    assert events[-1] == "gateway_stopped"
    for what in ("telemetry", "sql"):
        assert (events.count(f"{what}_unavailable"), events.count(f"{what}_available")) == (1, 1)
    assert len(events) == len(set(events)), "one line per change of state, not one per attempt or message"
    for secret in (PASSWORD, SECRET_SAMPLE):
        assert secret not in written


def test_an_error_of_the_database_does_not_quote_the_values(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(OperationalError) as failed, engine.connect() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:sample)"), {"sample": SECRET_SAMPLE})
    assert "nowhere" in str(failed.value)
    assert SECRET_SAMPLE not in str(failed.value)


def log_calls() -> list[tuple[str, ast.Call]]:
    found = []
    for path in sorted(Path(gateway.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id == "log":
                    found.append((path.name, node))
    return found


def test_no_line_is_given_a_payload_or_a_secret() -> None:
    """What a call hands to the log: no variable that holds what a machine said, or a secret."""
    calls = log_calls()
    assert len(calls) > 10
    forbidden = {"payload", "raw", "body", "record", "password", "token", "secret_text", "readings", "line"}
    for name, call in calls:
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
            if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name) and argument.func.id == "len":
                continue
            if isinstance(argument, ast.Attribute) and argument.attr == "serial":
                continue
            used = {n.id for n in ast.walk(argument) if isinstance(n, ast.Name)}
            used |= {n.attr for n in ast.walk(argument) if isinstance(n, ast.Attribute)}
            assert not used & forbidden, f"{name}:{call.lineno} logs {used & forbidden}"
