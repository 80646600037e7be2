"""Telemetry in InfluxDB 2: influxdb-client writes our own bytes, InfluxQL reads raw ranges, Flux reads means.

(InfluxQL answers a raw range about five times as fast as Flux, Flux a downsampled one twice as fast as InfluxQL.)
Measurement = equipment type, one tag ``serial``, fields = channels in the catalogue's types, time in ms.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode, urlsplit

import structlog
import urllib3
from influxdb_client import BucketRetentionRules, InfluxDBClient, TaskCreateRequest, TaskUpdateRequest
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from influxdb_client.service.write_service import WriteService
from isal import igzip

from domain.clock import SystemClock, from_ms, to_ms
from domain.errors import BrewairError, UnavailableError
from domain.readings import Reading, Value
from domain.telemetry.fields import WITH_MEANS, as_stored, fields_of, numeric
from domain.telemetry.port import MINUTE_RETENTION, RAW_RETENTION, OnRefused, RefusedPoint, Row

T = TypeVar("T")
log = structlog.get_logger()

TIMEOUT_MS = 10_000
FASTEST = 1
"""Level of compression: InfluxDB far away is sent a fourteenth of the bytes for 0.14 us a line, where zlib takes 0.64, and 2.8
at the level that influxdb-client asks for."""
RETRY_S = 1.0
MAX_RETRY_AFTER_S = 600.0
REFUSED_US_S = 30.0
"""How often to knock again where token, organisation or bucket are wrong: a person has to act."""
SMALL_FOR_S = 600.0
"""How long requests stay small after one was too large (413)."""
SEARCH_REQUESTS = 64
"""Requests spent on finding the single points that made a batch 'partial' (the others are written already)."""
LATEST_MS = 9_000_000_000_000
"""After every sample (the year 2255); InfluxDB holds times up to 2262."""
MINUTE_S = 60
MADE_AT_START = "start the gateway, which makes it; its token must be allowed to"

MEANS_EVERY, MEANS_FROM, MEANS_UNTIL = "1h", "-724h", "-720h"
"""The downsampling task makes means of what is thirty days old, four hours of it every hour (EJ).

Nobody reads a mean before the raw samples are forgotten, after half a year: so nearly every sample is looked at when all have
come, what machines stored for weeks while offline too, and of ten thousand machines an hour's work is minutes. That it is
looked at four times is for an InfluxDB that was away in between.
"""

_ESCAPES = str.maketrans({'"': '\\"', "\\": "\\\\"})
_UNPARSABLE = re.compile(r"unable to parse '(.*)': ", re.DOTALL)


def line_of(reading: Reading) -> bytes:
    """One line of line protocol, time in ms; empty where the reading has no field."""
    fields = ",".join(
        [
            f"{key}={value!r}" if type(value) is float else f"{key}={_field(value)}"
            for key, value in fields_of(reading).items()
        ]
    )
    return f"{reading.type},serial={reading.serial} {fields} {reading.ts}".encode() if fields else b""


def _field(value: Value) -> str:
    if isinstance(value, str):
        # A line break would end the line in some parsers; it carries nothing in a state or a code.
        return f'"{" ".join(value.splitlines()).translate(_ESCAPES)}"'
    return ("true" if value else "false") if isinstance(value, bool) else repr(value)


class InfluxTelemetry:
    """Telemetry behind ``influxdb+http(s)://host:port/org/bucket``.

    ``token`` is asked for again whenever the server refuses it, so that a new token file heals without a restart.
    ``on_refused`` is told of every point that the server can never take.
    """

    def __init__(self, url: str, token: Callable[[], str], on_refused: OnRefused | None = None) -> None:
        parts = urlsplit(url)
        self._base = f"{parts.scheme.removeprefix('influxdb+')}://{parts.netloc}"
        self._org, self._bucket = (unquote(part) for part in parts.path.strip("/").split("/", 1))
        self.answers: Counter[str] = Counter()
        self._token, self._on_refused = token, on_refused or _warn
        # On the same machine compressing costs the server more than it saves.
        self._compress = parts.hostname not in ("127.0.0.1", "localhost", "::1")
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=TIMEOUT_MS / 1000))
        self._client: InfluxDBClient | None = None
        self._time = SystemClock().monotonic
        self._most_bytes, self._small_until = 0, 0.0

    @property
    def minute_bucket(self) -> str:
        """Bucket of the one-minute means."""
        return f"{self._bucket}_1m"

    def setup(self) -> None:
        """Make what is missing: both buckets with their retention, the mapping for InfluxQL, the downsampling task."""

        def make(client: InfluxDBClient) -> None:
            organisation = next((o for o in client.organizations_api().find_organizations(org=self._org)), None)
            if organisation is None:
                raise UnavailableError("InfluxDB has no organisation {org}", retry_after=REFUSED_US_S, org=self._org)
            buckets = client.buckets_api()
            for name, kept in self._kept.items():
                if buckets.find_bucket_by_name(name) is None:
                    rules = BucketRetentionRules(type="expire", every_seconds=int(kept.total_seconds()))
                    buckets.create_bucket(bucket_name=name, retention_rules=rules, org=self._org)
            bucket = buckets.find_bucket_by_name(self._bucket)
            mappings = self._call("GET", "/api/v2/dbrps", {"orgID": organisation.id, "db": self._bucket})
            if not any(m["bucketID"] == bucket.id and not m.get("virtual") for m in mappings.get("content", ())):
                mapping = {"orgID": organisation.id, "bucketID": bucket.id, "database": self._bucket}
                self._call("POST", "/api/v2/dbrps", {}, {**mapping, "retention_policy": "raw", "default": True})
            tasks, wanted = client.tasks_api(), self._downsampling
            task = next(iter(tasks.find_tasks(name=self._task)), None)
            if task is None:
                tasks.create_task(task_create_request=TaskCreateRequest(org_id=organisation.id, flux=wanted))
            elif task.flux != wanted:
                tasks.update_task_request(task.id, TaskUpdateRequest(flux=wanted))

        self._ask(make)

    def shortcomings(self) -> list[tuple[str, str]]:
        """What :meth:`setup` would make or cannot mend, each with its cure; changes nothing. Raises UnavailableError."""

        def look(client: InfluxDBClient) -> list[tuple[str, str]]:
            organisation = next((o for o in client.organizations_api().find_organizations(org=self._org)), None)
            if organisation is None:
                return [(f"there is no organisation {self._org}", "correct BREWAIR_TELEMETRY_URL (…/org/bucket)")]
            found: list[tuple[str, str]] = []
            buckets = {name: client.buckets_api().find_bucket_by_name(name) for name in self._kept}
            for name, kept in self._kept.items():
                if buckets[name] is None:
                    found.append((f"there is no bucket {name}", MADE_AT_START))
                    continue
                seconds = next((rule.every_seconds for rule in buckets[name].retention_rules or ()), 0)
                if 0 < seconds < kept.total_seconds():
                    days = int(kept.total_seconds()) // 86_400
                    found.append(
                        (
                            f"bucket {name} keeps {seconds / 86_400:.1f} days of {days}",
                            f"influx bucket update --id {buckets[name].id} --retention {days}d",
                        )
                    )
            bucket = buckets[self._bucket]
            mappings = self._call("GET", "/api/v2/dbrps", {"orgID": organisation.id, "db": self._bucket})
            if bucket is not None and not any(m["bucketID"] == bucket.id for m in mappings.get("content", ())):
                found.append((f"InfluxQL has no mapping (DBRP) for {self._bucket}", MADE_AT_START))
            task = next(iter(client.tasks_api().find_tasks(name=self._task)), None)
            if task is None:
                found.append((f"there is no task '{self._task}'", MADE_AT_START))
            elif task.status != "active":
                found.append((f"task '{self._task}' is {task.status}", "set it active (influx task update)"))
            elif task.flux != self._downsampling:
                found.append((f"task '{self._task}' is not what it should be", MADE_AT_START))
            return found

        return self._ask(look)

    def clock(self) -> datetime | None:
        """The server's time, to the second; None where it does not say. Raises UnavailableError."""
        try:
            said = self._pool.request("GET", f"{self._base}/health").headers.get("Date")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._away(error) from error
        return parsedate_to_datetime(said) if said else None

    @property
    def _kept(self) -> Mapping[str, timedelta]:
        return {self._bucket: RAW_RETENTION, self.minute_bucket: MINUTE_RETENTION}

    @property
    def _task(self) -> str:
        """Name of the task that downsamples."""
        return f"{self._bucket} to one-minute means"

    def ping(self) -> None:
        """Ask for the newest point, which needs the server, the token, the bucket and the mapping."""
        self._influxql(f"SHOW MEASUREMENTS ON {_identifier(self._bucket)} LIMIT 1")

    def write(self, readings: Sequence[Reading]) -> None:
        """One request for all; a point that can never be written is cut out and told to ``on_refused``."""
        self.write_lines(b"\n".join([line for reading in readings if (line := line_of(reading))]))

    def write_lines(self, lines: bytes) -> None:
        """The same for line protocol that somebody else has made: a line break between two lines."""
        budget = [SEARCH_REQUESTS]
        waiting = list(self._pieces(lines)) if lines else []
        while waiting:
            waiting.extend(self._send(waiting.pop(), budget))

    def range(
        self,
        serial: str,
        type: str,
        start_ms: int,
        end_ms: int,
        channels: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        """Single samples by InfluxQL."""
        if channels is not None and not channels:
            return []
        columns = "*::field" if channels is None else ", ".join(_identifier(channel) for channel in channels)
        newest = f"DESC LIMIT {limit:d}" if limit is not None else "DESC"
        found = self._influxql(
            f'SELECT {columns} FROM {_identifier(type)} WHERE "serial" = {_text(serial)}'  # noqa: S608
            f" AND time >= {start_ms:d}ms AND time < {end_ms:d}ms ORDER BY time {newest}"
        )
        names: list[str] = found.get("columns", ["time"])[1:]
        rows = (Row(ts, as_stored(type, dict(zip(names, row, strict=True)))) for ts, *row in found.get("values", ()))
        return [row for row in rows if row.values][::-1]

    def downsampled(
        self, serial: str, type: str, start_ms: int, end_ms: int, channels: Sequence[str], every_s: int
    ) -> list[Row]:
        """Means by Flux; what the raw bucket no longer holds comes from the one-minute means."""
        names = numeric(type, channels)
        if not names or end_ms <= start_ms:
            return []
        means = self._means(self._bucket, serial, type, start_ms, end_ms, names, every_s)
        oldest = min(means, default=end_ms)
        if oldest - start_ms > every_s * 1000 and every_s % MINUTE_S == 0:
            means.update(self._means(self.minute_bucket, serial, type, start_ms, oldest, names, every_s))
        return [Row(ts, means[ts]) for ts in sorted(means)]

    def last(self, serial: str, type: str) -> Row | None:
        """The newest sample."""
        newest = self.range(serial, type, 0, LATEST_MS, limit=1)
        return newest[0] if newest else None

    def purge(self, before_ms: int) -> None:
        """Nothing to do: the bucket's retention forgets."""

    def close(self) -> None:
        """Close the connections."""
        self._forget_client()
        self._pool.clear()

    # --- writing

    def _send(self, lines: bytes, budget: list[int]) -> Iterable[bytes]:
        """Write ``lines``; give back what still has to be written (nothing when all is done)."""
        try:
            self._ask(
                lambda client: WriteService(client.api_client).post_write(
                    self._org,
                    self._bucket,
                    igzip.compress(lines, FASTEST) if self._compress else lines,
                    precision=WritePrecision.MS,
                    content_encoding="gzip" if self._compress else "identity",
                    content_type="text/plain; charset=utf-8",
                )
            )
        except _NotWritten as refusal:
            return [b"\n".join(rest) for rest in self._after(refusal, lines.split(b"\n"), budget)]
        self.answers["204"] += 1
        return ()

    def _pieces(self, lines: bytes) -> Iterator[bytes]:
        """``lines`` in requests of a size that was not too large of late; the last one first, as a stack has it."""
        if len(lines) <= self._most_bytes or self._time() >= self._small_until:
            yield lines
            return
        middle = lines.find(b"\n", len(lines) // 2)
        if middle < 0:
            yield lines
            return
        yield from self._pieces(lines[middle + 1 :])
        yield from self._pieces(lines[:middle])

    def _after(self, refusal: _NotWritten, lines: list[bytes], budget: list[int]) -> Iterable[list[bytes]]:
        """What to do with lines that were refused: the error table of the design, row by row."""
        quoted = _UNPARSABLE.search(refusal.message) if refusal.status == 400 else None
        bad = quoted[1].encode() if quoted else None
        if bad in lines:
            self._on_refused(RefusedPoint("unwritable", refusal.message, bad))
            rest = [line for line in lines if line != bad]
            return [rest] if rest else ()
        if len(lines) == 1:
            self._on_refused(RefusedPoint("unwritable", refusal.message, lines[0]))
            return ()
        if refusal.partial:
            # The rest is written already; looking for the culprits only serves the people who read the quarantine.
            budget[0] -= 2
            if budget[0] < 0:
                self._on_refused(RefusedPoint("unwritable", refusal.message))
                return ()
        if refusal.status == 413:
            self._most_bytes, self._small_until = sum(map(len, lines)) // 2, self._time() + SMALL_FOR_S
        middle = len(lines) // 2
        return lines[middle:], lines[:middle]

    # --- asking

    def _ask(self, question: Callable[[InfluxDBClient], T]) -> T:
        """Put a question through influxdb-client and translate its failures."""
        try:
            return question(self._connected())
        except ApiException as error:
            raise self._failure(error.status or 0, error.body or b"", error.headers or {}) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._away(error) from error

    def _call(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One request beside influxdb-client, whose models know neither InfluxQL nor mappings well."""
        headers = {"Authorization": f"Token {self._token()}", "Content-Type": "application/json"}
        try:
            answer = self._pool.request(
                method,
                f"{self._base}{path}?{urlencode(query)}",
                body=None if body is None else json.dumps(body),
                headers=headers,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._away(error) from error
        if answer.status >= 300:
            raise self._failure(answer.status, answer.data, answer.headers)
        parsed: dict[str, Any] = json.loads(answer.data or b"{}")
        return parsed

    def _away(self, error: Exception) -> UnavailableError:
        self.answers["none"] += 1
        return UnavailableError("InfluxDB at {url} is away: {why}", retry_after=RETRY_S, url=self._base, why=error)

    def _failure(self, status: int, body: bytes | str, headers: Mapping[str, str]) -> BrewairError:
        self.answers[str(status)] += 1
        message = _message(body)
        if status in (401, 403, 404):
            self._forget_client()
            return UnavailableError(
                "InfluxDB refuses us ({status}: {message}); check token, organisation and bucket",
                retry_after=REFUSED_US_S,
                status=status,
                message=message,
            )
        partial = status == 422 or (status == 500 and "partial write" in message)
        if status in (400, 413) or partial:
            return _NotWritten(status, message, partial)
        return UnavailableError(
            "InfluxDB cannot now ({status}: {message})",
            retry_after=_asked_for_s(headers.get("Retry-After", "")),
            status=status,
            message=message,
        )

    def _influxql(self, query: str) -> dict[str, Any]:
        """The first series of an InfluxQL query, times in ms."""
        answer = self._call("GET", "/query", {"db": self._bucket, "epoch": "ms", "q": query})
        result = answer["results"][0]
        if "error" in result:
            raise UnavailableError("InfluxDB: {message}", retry_after=RETRY_S, message=result["error"])
        series: dict[str, Any] = result.get("series", [{}])[0]
        return series

    def _means(
        self, bucket: str, serial: str, type: str, start_ms: int, end_ms: int, names: Sequence[str], every_s: int
    ) -> dict[int, dict[str, Value]]:
        fields = " or ".join(f"r._field == {_flux_text(name)}" for name in names)
        flux = f"""
            from(bucket: {_flux_text(bucket)})
              |> range(start: {_flux_time(start_ms)}, stop: {_flux_time(end_ms)})
              |> filter(fn: (r) => r._measurement == {_flux_text(type)} and r.serial == {_flux_text(serial)})
              |> filter(fn: (r) => {fields})
              |> aggregateWindow(every: {every_s:d}s, fn: mean, createEmpty: false, timeSrc: "_start")
              |> keep(columns: ["_time", "_field", "_value"])
        """
        means: dict[int, dict[str, Value]] = {}
        for table in self._ask(lambda client: client.query_api().query(flux, org=self._org)):
            for record in table.records:
                ts = to_ms(record.get_time())
                # The first window begins at the range's start; the span it lies in is what we promise.
                means.setdefault(ts - ts % (every_s * 1000), {})[record.get_field()] = float(record.get_value())
        return means

    @property
    def _downsampling(self) -> str:
        # By name and not by type: only such a filter, and then the means, are worked out where the data lie.
        return f"""option task = {{name: {_flux_text(self._task)}, every: {MEANS_EVERY}}}
            from(bucket: {_flux_text(self._bucket)})
              |> range(start: {MEANS_FROM}, stop: {MEANS_UNTIL})
              |> filter(fn: (r) => r._field =~ /^({"|".join(WITH_MEANS)})$/)
              |> aggregateWindow(every: 1m, fn: mean, createEmpty: false, timeSrc: "_start")
              |> to(bucket: {_flux_text(self.minute_bucket)}, org: {_flux_text(self._org)})
        """

    def _connected(self) -> InfluxDBClient:
        if self._client is None:
            self._client = InfluxDBClient(self._base, token=self._token(), org=self._org, timeout=TIMEOUT_MS)
        return self._client

    def _forget_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _asked_for_s(header: str) -> float:
    """How long a server asks us to stay away: seconds or a date; a second where it does not say, ten minutes at most."""
    try:
        asked = urllib3.Retry().parse_retry_after(header) if header else RETRY_S
    except urllib3.exceptions.InvalidHeader:
        return RETRY_S
    return min(asked, MAX_RETRY_AFTER_S)


class _NotWritten(BrewairError):
    """The server understood us and will never take this as it is."""

    def __init__(self, status: int, message: str, partial: bool) -> None:
        self.status, self.message, self.partial = status, message, partial
        super().__init__("InfluxDB will not take this ({status}: {message})", status=status, message=message)


def _warn(refused: RefusedPoint) -> None:
    log.warning("telemetry_point_refused", reason=refused.reason, message=refused.message)


def _message(body: bytes | str) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    try:
        return str(json.loads(text).get("message") or text)
    except (ValueError, AttributeError):
        return text


def _identifier(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _flux_text(value: str) -> str:
    return json.dumps(value).replace("${", "\\${")


def _flux_time(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
