"""Settings: one list for all programs, from the environment or a TOML file named by ``BREWAIR_CONFIG``.

The environment wins over the file, the file over the default. ``SETTINGS`` is the list; ``load`` refuses an unknown
``BREWAIR_`` name (with the nearest right one) and an unusable value, one line each.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from domain.errors import SettingsError

MQTT_PORTS: Mapping[str, int] = {"mqtt": 1883, "mqtts": 8883}


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    return Path(value).expanduser()


def _file(value: str) -> Path | None:
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    return path


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value and urlsplit(value).scheme not in schemes:
            raise ValueError(f"must begin with {' or '.join(s + '://' for s in schemes)}")
        return value

    return parse


def _brokers(value: str) -> str:
    _url(*MQTT_PORTS)(value)
    broker_addresses(value)
    return value


def broker_addresses(url: str) -> tuple[tuple[str, int], ...]:
    """Host and port of every broker in ``mqtt://a:1883,b:1883`` (or ``mqtts``). Raises ValueError."""
    parts = urlsplit(url)
    each = [urlsplit(f"{parts.scheme}://{one.strip()}") for one in parts.netloc.split(",")]
    if not all(one.hostname for one in each):
        raise ValueError("must be one address or several, such as mqtt://a:1883 or mqtt://a:1883,b:1883")
    return tuple((one.hostname or "", one.port or MQTT_PORTS[parts.scheme]) for one in each)


def _size(value: str) -> int:
    match = re.fullmatch(r"(\d+)\s*(B|KiB|MiB|GiB)?", value.strip())
    if not match:
        raise ValueError("must be a size such as 512MiB or 10GiB")
    return int(match[1]) * {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[match[2] or "B"]


def _choice(*known: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return value

    return parse


def _seconds(value: str) -> float:
    match = re.fullmatch(r"(\d+)\s*(s|m|h|d)?", value.strip())
    if not match:
        raise ValueError("must be a time such as 90s, 15m or 1h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or "s"]


def _shards(value: str) -> frozenset[int]:
    shards: set[int] = set()
    for part in value.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise ValueError("must be shards such as 0-15 or 0,3,5-7")
        shards.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    if not shards <= set(range(16)):
        raise ValueError("shards go from 0 to 15")
    return frozenset(shards)


def _bind(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8000")
    return host, int(port)


def _bind_or_off(value: str) -> tuple[str, int] | None:
    return _bind(value) if value else None


def _zone(value: str) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("must be a time zone such as Asia/Shanghai") from error


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its field on :class:`Settings`, default text, parser, and whether ``doctor`` must mask it."""

    field: str
    default: str
    parse: Callable[[str], Any]
    help: str
    secret: bool = False


SETTINGS: Mapping[str, Setting] = {
    "BREWAIR_DATA_DIR": Setting("data_dir", "~/.local/share/brewair", _path, "folder of everything brewair keeps"),
    "BREWAIR_DATABASE_URL": Setting(
        "database_url",
        "",
        _url("sqlite", "postgresql+psycopg"),
        "SQL; default brewair.db in the data folder",
        secret=True,
    ),
    "BREWAIR_TELEMETRY_URL": Setting(
        "telemetry_url",
        "",
        _url("sqlite", "influxdb+http", "influxdb+https"),
        "telemetry; default telemetry.db beside it",
    ),
    "BREWAIR_INFLUX_TOKEN_FILE": Setting("influx_token_file", "", _file, "file that holds the InfluxDB token"),
    "BREWAIR_MQTT_URL": Setting(
        "mqtt_url", "mqtt://127.0.0.1:1883", _brokers, "the broker; nodes of a cluster with commas"
    ),
    "BREWAIR_MQTT_USER": Setting("mqtt_user", "", _text, "user name at the broker"),
    "BREWAIR_MQTT_PASSWORD_FILE": Setting("mqtt_password_file", "", _file, "file that holds its password"),
    "BREWAIR_MQTT_CA_FILE": Setting("mqtt_ca_file", "", _file, "CA certificate of the broker"),
    "BREWAIR_MQTT_CERT_FILE": Setting("mqtt_cert_file", "", _file, "client certificate"),
    "BREWAIR_MQTT_KEY_FILE": Setting("mqtt_key_file", "", _file, "key of the client certificate"),
    "BREWAIR_MQTT_RECEIVER": Setting(
        "mqtt_receiver", "native", _choice("native", "paho"), "which MQTT receiver the gateway uses"
    ),
    "BREWAIR_GATEWAY_CORE": Setting(
        "gateway_core",
        "auto",
        _choice("auto", "compiled", "python"),
        "what works off ordinary messages; auto: compiled where it was built",
    ),
    "BREWAIR_SPOOL_DIR": Setting("spool_dir", "", _path, "spool; default spool/ in the data folder"),
    "BREWAIR_SPOOL_MAX_BYTES": Setting("spool_max_bytes", "8GiB", _size, "spool size at which the policy applies"),
    "BREWAIR_SPOOL_KEEP": Setting("spool_keep_s", "1h", _seconds, "how long written segments are kept for refilling"),
    "BREWAIR_SPOOL_POLICY": Setting("spool_policy", "block", _choice("block", "drop_oldest"), "what a full spool does"),
    "BREWAIR_SHARDS": Setting("shards", "0-15", _shards, "which topic shards this gateway takes"),
    "BREWAIR_PORTAL_BIND": Setting("portal_bind", "127.0.0.1:8000", _bind, "address of the portal"),
    "BREWAIR_METRICS_BIND": Setting("metrics_bind", "", _bind_or_off, "address of /metrics; off where empty"),
    "BREWAIR_PUBLIC_URL": Setting("public_url", "", _url("http", "https"), "how people reach the portal"),
    "BREWAIR_SECRET_FILE": Setting(
        "secret_file", "", _path, "portal secret; default secret in the data folder, made once"
    ),
    "BREWAIR_TIMEZONE": Setting("timezone", "Asia/Shanghai", _zone, "time zone that people see"),
    "BREWAIR_LOCALE": Setting("locale", "zh_CN", _choice("zh_CN", "en"), "language before log-in"),
}
CONFIG = "BREWAIR_CONFIG"
OUTSIDE = frozenset({CONFIG, "BREWAIR_REQUIRE", "BREWAIR_SAMPLES", "BREWAIR_FULL"})
"""Names that are not settings of the programs: where the file is, and what tests read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, parsed. ``sources`` says for each name ``default``, ``environment`` or the file."""

    data_dir: Path
    database_url: str
    telemetry_url: str
    influx_token_file: Path | None
    mqtt_url: str
    mqtt_user: str
    mqtt_password_file: Path | None
    mqtt_ca_file: Path | None
    mqtt_cert_file: Path | None
    mqtt_key_file: Path | None
    mqtt_receiver: str
    gateway_core: str
    spool_dir: Path
    spool_max_bytes: int
    spool_keep_s: float
    spool_policy: str
    shards: frozenset[int]
    portal_bind: tuple[str, int]
    metrics_bind: tuple[str, int] | None
    public_url: str
    secret_file: Path
    timezone: ZoneInfo
    locale: str
    sources: Mapping[str, str]

    @property
    def brokers(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each broker in ``mqtt_url``, in their order; any of them will do."""
        return broker_addresses(self.mqtt_url)

    def secret_text(self, path: Path | None) -> str:
        """Content of a secret file without its line end; empty where there is no file."""
        return path.read_text().strip() if path else ""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``environ`` (default: the process's) and the file it names.

    Raises SettingsError with one line per unknown name or unusable value.
    """
    environ = os.environ if environ is None else environ
    given = {name: (value, "environment") for name, value in environ.items() if name.startswith("BREWAIR_")}
    problems: list[str] = []
    if CONFIG in given:
        path = Path(given[CONFIG][0]).expanduser()
        try:
            table = tomllib.loads(path.read_text())
            for key, value in table.items():
                name = key if key.startswith("BREWAIR_") else f"BREWAIR_{key.upper()}"
                given.setdefault(name, (str(value), str(path)))
        except OSError as error:
            problems.append(f"{CONFIG}: cannot read {path}: {error.strerror}")
        except tomllib.TOMLDecodeError as error:
            problems.append(f"{CONFIG}: {path} is not TOML: {error}")
    for name in sorted(given.keys() - SETTINGS.keys() - OUTSIDE):
        near = difflib.get_close_matches(name, SETTINGS, n=1)
        problems.append(f"{name}: no such setting" + (f"; did you mean {near[0]}?" if near else ""))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, setting in SETTINGS.items():
        text, sources[name] = given.get(name, (setting.default, "default"))
        try:
            values[setting.field] = setting.parse(text)
        except ValueError as error:
            problems.append(f"{name}: {error} (got {'***' if setting.secret else text!r})")
    if problems:
        raise SettingsError("{problems}", problems="\n".join(problems))
    return Settings(**_with_folder_defaults(values, given), sources=sources)


def _with_folder_defaults(values: dict[str, Any], given: Mapping[str, object]) -> dict[str, Any]:
    folder: Path = values["data_dir"]
    values["database_url"] = values["database_url"] or f"sqlite:///{folder / 'brewair.db'}"
    values["telemetry_url"] = values["telemetry_url"] or f"sqlite:///{folder / 'telemetry.db'}"
    if not given.get("BREWAIR_SPOOL_DIR"):
        values["spool_dir"] = folder / "spool"
    if not given.get("BREWAIR_SECRET_FILE"):
        values["secret_file"] = folder / "secret"
    return values
