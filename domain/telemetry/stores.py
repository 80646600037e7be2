"""Which telemetry store an address names. Another database is a file beside this one and a line in ``STORES``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from domain.errors import SettingsError
from domain.settings import Settings
from domain.telemetry.influx import InfluxTelemetry
from domain.telemetry.port import OnRefused, Telemetry
from domain.telemetry.sqlite import SqliteTelemetry


def _sqlite(settings: Settings, on_refused: OnRefused | None) -> Telemetry:
    path = settings.telemetry_url.removeprefix("sqlite:///")
    if not path or path.startswith("sqlite:"):
        raise SettingsError("BREWAIR_TELEMETRY_URL: must name a file, such as sqlite:////var/lib/brewair/telemetry.db")
    return SqliteTelemetry(Path(path))


def _influx(settings: Settings, on_refused: OnRefused | None) -> Telemetry:
    if len([part for part in urlsplit(settings.telemetry_url).path.split("/") if part]) != 2:
        raise SettingsError("BREWAIR_TELEMETRY_URL: must end with /org/bucket")
    if settings.influx_token_file is None:
        raise SettingsError("BREWAIR_INFLUX_TOKEN_FILE: must name the file that holds the InfluxDB token")
    return InfluxTelemetry(settings.telemetry_url, lambda: settings.secret_text(settings.influx_token_file), on_refused)


STORES: Mapping[str, Callable[[Settings, OnRefused | None], Telemetry]] = {
    "sqlite": _sqlite,
    "influxdb+http": _influx,
    "influxdb+https": _influx,
}


def open_telemetry(settings: Settings, on_refused: OnRefused | None = None) -> Telemetry:
    """The store that ``BREWAIR_TELEMETRY_URL`` names; nothing is contacted yet.

    Raises SettingsError where the address does not fit. ``on_refused`` is told of points that can never be written.
    """
    return STORES[urlsplit(settings.telemetry_url).scheme](settings, on_refused)
