"""Real servers for tests: Mosquitto, a NATS cluster, InfluxDB 2, PostgreSQL, and the path of a Chromium.

Each server is a context manager with a free port, a temporary folder and a process of its own; ``.ci/servers``
installs what they run. A server that is not on the machine raises ``ServerMissingError``; ``do_without`` turns
that into a skip, or into a failure where ``BREWAIR_REQUIRE`` names it.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self, TypeVar

import paho.mqtt.client as mqtt
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from psycopg import sql

HOST = "127.0.0.1"
SERVERS = ("mosquitto", "influxdb", "postgresql", "chromium", "nats", "core", "strace", "small-disk")
"""What BREWAIR_REQUIRE may name: servers, and other things that not every machine has."""

T = TypeVar("T")


class ServerMissingError(Exception):
    """The program of a server is not on this machine; the text says what to install."""


class ServerFailedError(Exception):
    """A server did not start, or ended by itself; the text ends with the tail of its log."""


def required_servers() -> set[str]:
    """The servers that this run may not do without: ``BREWAIR_REQUIRE``, separated by commas."""
    return {name.strip() for name in os.environ.get("BREWAIR_REQUIRE", "").split(",") if name.strip()}


def do_without(name: str, error: ServerMissingError) -> NoReturn:
    """Ends the asking test: as failed where the server is required, else as skipped."""
    if name in required_servers():
        pytest.fail(f"BREWAIR_REQUIRE names {name}, but: {error}", pytrace=False)
    pytest.skip(str(error))


def needs_strace() -> None:
    """Ends the asking test where there is no strace."""
    try:
        strace = find_program("strace", package="Debian package strace")
        if subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
            raise ServerMissingError("strace may not look at processes here")
    except ServerMissingError as error:
        do_without("strace", error)


def small_disk(folder: Path, size: str) -> tuple[str, ...]:
    """A wrapper that gives a program a disk of its own of ``size`` (as mount says it) at ``folder``; ends the asking test where
    nobody may mount one: that takes root, or user namespaces."""
    namespace = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")
    wrapper = (*namespace, "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs "{folder}" && exec "$@"', "sh")
    try:
        tried = subprocess.run([*wrapper, "true"], capture_output=True, text=True, check=False, timeout=30)
    except OSError as error:
        do_without("small-disk", ServerMissingError(f"no small disk: {error}"))
    if tried.returncode:
        do_without("small-disk", ServerMissingError(f"no small disk may be mounted here: {tried.stderr.strip()}"))
    return wrapper


def wait_until(condition: Callable[[], T], *, timeout_s: float = 10.0, what: str = "", every_s: float = 0.02) -> T:
    """Calls ``condition`` until it gives something true, and returns that.

    Raises TimeoutError, naming ``what``, when ``timeout_s`` (monotonic) has passed.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        outcome = condition()
        if outcome:
            return outcome
        if time.monotonic() >= deadline:
            label = what or getattr(condition, "__name__", "the condition")
            raise TimeoutError(f"waited {timeout_s:g} s in vain for {label}")
        time.sleep(every_s)


def free_port() -> int:
    """A TCP port that nobody listens on now.

    Taken from below the range that the system gives to outgoing connections, so that it is still free when a
    stopped server comes back to it.
    """
    for _ in range(200):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerFailedError("no free port between 20000 and 32000")


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on ``port`` of this machine."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0):
            return True
    except OSError:
        return False


def find_program(name: str, *places: Path, package: str) -> Path:
    """The path of a program on the PATH, in a folder for administrators, or in ``places``.

    Raises ServerMissingError naming ``package``.
    """
    search = os.pathsep.join(
        [os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", *(str(place) for place in places)]
    )
    found = shutil.which(name, path=search)
    if found is None:
        raise ServerMissingError(f"{name} is not on this machine ({package}; run .ci/servers)")
    return Path(found)


def server_cache() -> Path:
    """The folder in which ``.ci/servers`` keeps what it has built."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "brewair" / "servers"


class Server(ABC):
    """A child process that listens on one port, with a temporary folder that outlives stop() and kill()."""

    name: str
    start_timeout_s = 30.0
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.host = HOST
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"brewair-{self.name}-"))
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments; it stays in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the started server answers."""

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing here
        """What is done once, before the first start."""

    def complete(self) -> None:  # noqa: B027 - most servers need nothing here
        """What is done once, after the first start."""

    def identity(self) -> tuple[int, int] | None:
        """User and group id that the process gets, or None to stay who we are."""
        return None

    def environment(self) -> dict[str, str]:
        """What the process finds in its environment beside what we have there."""
        return {}

    @property
    def pid(self) -> int:
        """Process id of the running server; raises ServerFailedError when it is stopped."""
        if self._process is None:
            raise ServerFailedError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything that the server has printed so far, over all its starts."""
        path = self.folder / "server.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Starts the process on the same port and data, and returns when it answers; no-op while it runs.

        Raises ServerFailedError when it ends at once, TimeoutError when it does not answer in time.
        """
        if self.running:
            return
        user, group = self.identity() or (None, None)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder), **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                start_new_session=True,
            )
        try:
            wait_until(self._answers, timeout_s=self.start_timeout_s, what=f"{self.name} to answer")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends the process in good order; the port and the data stay for the next start()."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """Ends the process as a crash would (SIGKILL); the port and the data stay for the next start()."""
        self._end(signal.SIGKILL)

    def _answers(self) -> bool:
        if not self.running:
            raise ServerFailedError(f"{self.name} ended by itself:\n{self.log[-2000:]}")
        return self.is_ready()

    def _end(self, by: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(by)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=30)

    def anew(self) -> None:
        """Starts on an empty folder, where what a kill has left behind cannot be used any more."""
        self.kill()
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.prepare()
        self.start()
        self.complete()

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
            self.complete()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the server and removes its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Mosquitto(Server):
    """A Mosquitto broker that lets everybody in and holds back up to a million messages.

    ``configuration`` replaces the whole configuration; ``{folder}`` and ``{port}`` in it are filled in. Its
    first listener must be on ``{port}``.
    """

    name = "mosquitto"
    start_timeout_s = 10.0

    DEFAULT = """\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 1000000
max_inflight_messages 20000
persistence true
persistence_location {folder}/
"""

    def __init__(self, configuration: str = DEFAULT) -> None:
        self._program = find_program("mosquitto", package="Debian package mosquitto")
        super().__init__()
        self._configuration = configuration

    @property
    def url(self) -> str:
        """The address as ``BREWAIR_MQTT_URL`` wants it."""
        return f"mqtt://{self.host}:{self.port}"

    def prepare(self) -> None:
        """Writes the configuration; a broker started by root stays root, or it could not reach its folder."""
        text = self._configuration.replace("{port}", str(self.port)).replace("{folder}", str(self.folder))
        if os.geteuid() == 0 and not re.search(r"^user\s", text, re.MULTILINE):
            text = "user root\n" + text
        (self.folder / "mosquitto.conf").write_text(text, encoding="utf-8")

    def command(self) -> list[str]:
        """Mosquitto in the foreground."""
        return [str(self._program), "-c", str(self.folder / "mosquitto.conf")]

    def is_ready(self) -> bool:
        """Whether its port is open."""
        return accepts_connections(self.port)


NATS_CONFIGURATION = Path(__file__).resolve().parents[1] / "docs" / "nats"
"""What production runs; the nodes of the tests differ in addresses and paths only."""


class NatsNode(Server):
    """One nats-server of a cluster; ``port`` is its MQTT listener. Ready means that it listens, not that it has a quorum."""

    name = "nats"
    passwords: ClassVar[dict[str, str]] = {
        "NATS_GATEWAY_PASSWORD": "gateway-secret",
        "NATS_DEVICES_PASSWORD": "devices-secret",
    }

    def __init__(self, number: int, program: Path) -> None:
        super().__init__()
        self.server_name = f"nats-{number}"
        self.client_port, self.route_port = free_port(), free_port()
        self._program = program

    def configure(self, nodes: Sequence[NatsNode]) -> None:
        """Writes the configuration of production, with the addresses of this cluster."""
        text = (NATS_CONFIGURATION / "nats-server.conf").read_text(encoding="utf-8")
        moved = {
            '"0.0.0.0:4222"': f'"{self.host}:{self.client_port}"',
            '"0.0.0.0:6222"': f'"{self.host}:{self.route_port}"',
            '"0.0.0.0:1883"': f'"{self.host}:{self.port}"',
            "/var/lib/nats": str(self.folder / "jetstream"),
            **{f"nats://{node.server_name}:6222": f"nats://{node.host}:{node.route_port}" for node in nodes},
        }
        for here, there in moved.items():
            if text.count(here) != 1:
                raise ServerFailedError(f"nats-server.conf says {here} {text.count(here)} times")
            text = text.replace(here, there)
        (self.folder / "nats-server.conf").write_text(text, encoding="utf-8")
        shutil.copy(NATS_CONFIGURATION / "users.conf", self.folder)

    def environment(self) -> dict[str, str]:
        """The name of the node, and the passwords of users.conf."""
        return {"NATS_NAME": self.server_name, **self.passwords}

    def command(self) -> list[str]:
        """nats-server in the foreground."""
        return [str(self._program), "-c", str(self.folder / "nats-server.conf")]

    def is_ready(self) -> bool:
        """Whether its MQTT port is open."""
        return accepts_connections(self.port)


class NatsCluster:
    """Three nodes that replicate every message three times; any of them may be killed and started again."""

    def __init__(self) -> None:
        builds = sorted(server_cache().glob("nats-server-*"), reverse=True)
        program = find_program("nats-server", *builds, package="nats-server, built from source")
        self.nodes = tuple(NatsNode(number, program) for number in (1, 2, 3))
        for node in self.nodes:
            node.configure(self.nodes)

    @property
    def url(self) -> str:
        """The addresses of all nodes as ``BREWAIR_MQTT_URL`` wants them."""
        return "mqtt://" + ",".join(f"{node.host}:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Starts what does not run, and returns when every node lets an MQTT client in (for which it needs a quorum)."""
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            wait_until(
                lambda node=node: self._lets_in(node),
                timeout_s=60,
                what=f"{node.server_name} to let a client in",
                every_s=0.2,
            )

    def _lets_in(self, node: NatsNode) -> bool:
        greeted: list[bool] = []
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"probe-{node.server_name}")
        client.username_pw_set("devices", node.passwords["NATS_DEVICES_PASSWORD"])
        client.on_connect = lambda _client, _data, _flags, reason, _properties: greeted.append(not reason.is_failure)
        try:
            client.connect(node.host, node.port)
        except OSError:
            return False
        deadline = time.monotonic() + 5.0
        while not greeted and time.monotonic() < deadline and client.loop(timeout=0.2) == mqtt.MQTT_ERR_SUCCESS:
            pass
        client.disconnect()
        return bool(greeted) and greeted[0]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the nodes and removes their folders."""
        for node in self.nodes:
            node.close()


class InfluxDB(Server):
    """An InfluxDB 2 with one organisation, the bucket ``telemetry`` and a token that may do everything."""

    name = "influxdb"
    start_timeout_s = 60.0

    def __init__(self) -> None:
        builds = sorted(server_cache().glob("influxd-*"), reverse=True)
        self._program = find_program("influxd", *builds, package="InfluxDB 2, built from source")
        super().__init__()
        self.org = "brewair"
        self.bucket = "telemetry"
        self.token = secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        """Base address of its HTTP interface."""
        return f"http://{self.host}:{self.port}"

    @property
    def telemetry_url(self) -> str:
        """The address as ``BREWAIR_TELEMETRY_URL`` wants it."""
        return f"influxdb+{self.url}/{self.org}/{self.bucket}"

    def command(self) -> list[str]:
        """influxd with all its files in the temporary folder."""
        return [
            str(self._program),
            f"--http-bind-address={self.host}:{self.port}",
            f"--bolt-path={self.folder / 'influxd.bolt'}",
            f"--engine-path={self.folder / 'engine'}",
            f"--sqlite-path={self.folder / 'influxd.sqlite'}",
            "--reporting-disabled",
            "--log-level=warn",
        ]

    def is_ready(self) -> bool:
        """Whether /health says pass."""
        try:
            return bool(self.call("GET", "/health").get("status") == "pass")
        except (OSError, ValueError):
            return False

    def complete(self) -> None:
        """Makes user, organisation, bucket and token."""
        self.call(
            "POST",
            "/api/v2/setup",
            {
                "username": "admin",
                "password": secrets.token_urlsafe(16),
                "org": self.org,
                "bucket": self.bucket,
                "token": self.token,
                "retentionPeriodSeconds": 0,
            },
        )

    def fresh_bucket(self) -> str:
        """Makes a new empty bucket and gives its name."""
        organisations = self.call("GET", f"/api/v2/orgs?org={self.org}")["orgs"]
        name = f"bucket-{secrets.token_hex(6)}"
        rule = {"orgID": organisations[0]["id"], "name": name, "retentionRules": []}
        self.call("POST", "/api/v2/buckets", rule)
        return name

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request to its HTTP interface, with the token; gives the JSON answer.

        Raises urllib.error.URLError (an OSError) when it cannot be reached or refuses.
        """
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Token {self.token}"},
        )
        # A proxy of the environment must not stand between us and a server of our own.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            parsed: dict[str, Any] = json.loads(answer.read() or b"{}")
            return parsed


class PostgreSQL(Server):
    """A PostgreSQL cluster of its own, reachable without password, made for speed and not for keeping data."""

    name = "postgresql"
    stop_signal = signal.SIGINT  # "fast shutdown": does not wait for clients
    user = "brewair"

    def __init__(self) -> None:
        clusters = sorted(
            Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True
        )
        self._postgres = find_program("postgres", *clusters, package="Debian package postgresql-15")
        self._initdb = find_program("initdb", *clusters, package="Debian package postgresql-15")
        super().__init__()
        self._data = self.folder / "data"

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database ``postgres``, which every cluster has; see fresh_database()."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """SQLAlchemy URL of a database of this cluster."""
        return f"postgresql+psycopg://{self.user}@{self.host}:{self.port}/{database}"

    def identity(self) -> tuple[int, int] | None:
        """PostgreSQL refuses to run as root: then it becomes the user that its package made, or nobody."""
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return entry.pw_uid, entry.pw_gid
        raise ServerMissingError("PostgreSQL does not run as root and there is no user postgres or nobody")

    def prepare(self) -> None:
        """Makes the cluster (initdb)."""
        identity = self.identity()
        if identity is not None:
            os.chown(self.folder, *identity)
        made = subprocess.run(
            [
                str(self._initdb),
                f"--pgdata={self._data}",
                f"--username={self.user}",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            user=None if identity is None else identity[0],
            group=None if identity is None else identity[1],
            extra_groups=None if identity is None else [],
        )
        if made.returncode != 0:
            raise ServerFailedError(f"initdb failed:\n{made.stdout[-1000:]}\n{made.stderr[-1000:]}")

    def command(self) -> list[str]:
        """The server in the foreground, without care for power cuts."""
        settings = {
            "listen_addresses": self.host,
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "timezone": "UTC",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._postgres), "-D", str(self._data), "-p", str(self.port), *options]

    def is_ready(self) -> bool:
        """Whether it takes a connection (it refuses while it recovers)."""
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def fresh_database(self) -> str:
        """Makes a new empty database and gives its SQLAlchemy URL."""
        name = f"test_{secrets.token_hex(6)}"
        with self._connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url_of(name)

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=self.host, port=self.port, user=self.user, dbname="postgres", connect_timeout=5, autocommit=True
        )


def find_chromium() -> Path:
    """The system's Chromium, for Playwright's ``executable_path``; raises ServerMissingError."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise ServerMissingError("chromium is not on this machine (Debian package chromium; run .ci/servers)")
