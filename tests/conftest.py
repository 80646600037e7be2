"""Fixtures for every kind of test: one real server each, started when a test first asks for it.

InfluxDB and PostgreSQL are shared by the session, a bucket or a database each; a broker is started for each test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.summary import pytest_sessionfinish, pytest_terminal_summary  # noqa: F401 - hooks of pytest
from tests.servers import (
    SERVERS,
    InfluxDB,
    Mosquitto,
    NatsCluster,
    PostgreSQL,
    Server,
    ServerFailedError,
    ServerMissingError,
    do_without,
    find_chromium,
    required_servers,
)

_started: list[Server] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--soak``: how long faults go on happening in the soak test."""
    parser.addoption("--soak", default="150", metavar="SECONDS", help="length of the soak under faults (default: 150)")


def pytest_configure(config: pytest.Config) -> None:
    """Stops a run whose BREWAIR_REQUIRE has a name that no fixture knows: it would require nothing."""
    unknown = required_servers() - set(SERVERS)
    if unknown:
        raise pytest.UsageError(f"BREWAIR_REQUIRE: no server {', '.join(sorted(unknown))}; known: {SERVERS}")


@pytest.fixture(autouse=True)
def _servers_are_up() -> None:
    """Starts again what an earlier test has left stopped, so that one failure does not pull down the rest."""
    for server in _started:
        try:
            server.start()
        except ServerFailedError:
            server.anew()


@pytest.fixture
def mosquitto() -> Iterator[Mosquitto]:
    """A Mosquitto of the test's own: sessions outlive a test, and gateways of equal shards have equal client ids."""
    try:
        server = Mosquitto()
    except ServerMissingError as error:
        do_without("mosquitto", error)
    with server:
        yield server


@pytest.fixture(scope="session")
def influxdb() -> Iterator[InfluxDB]:
    """An InfluxDB 2 shared by the whole session: use ``fresh_bucket()`` or serial numbers of your own."""
    try:
        server = InfluxDB()
    except ServerMissingError as error:
        do_without("influxdb", error)
    with server:
        _started.append(server)
        yield server
        _started.remove(server)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL shared by the whole session: use ``fresh_database()``."""
    try:
        server = PostgreSQL()
    except ServerMissingError as error:
        do_without("postgresql", error)
    with server:
        _started.append(server)
        yield server
        _started.remove(server)


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsCluster]:
    """Three NATS nodes shared by the whole session: use shards, serial numbers and client ids of your own."""
    try:
        cluster = NatsCluster()
    except ServerMissingError as error:
        do_without("nats", error)
    with cluster:
        _started.extend(cluster.nodes)
        yield cluster
        for node in cluster.nodes:
            _started.remove(node)


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    """The system's Chromium, for ``playwright.chromium.launch(executable_path=…, args=["--no-sandbox"])``."""
    try:
        return find_chromium()
    except ServerMissingError as error:
        do_without("chromium", error)
