"""Each server fixture gives a real, working server that survives a stop with its data."""

from __future__ import annotations

import queue
import sys
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
import sqlalchemy as sa
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from paho.mqtt.enums import CallbackAPIVersion
from playwright.sync_api import sync_playwright

from tests.servers import InfluxDB, Mosquitto, PostgreSQL, Server, ServerFailedError, free_port, wait_until

pytestmark = pytest.mark.integration


def test_wait_until_gives_the_value_or_names_what_it_waited_for() -> None:
    values = iter([0, 0, 7])
    assert wait_until(lambda: next(values), timeout_s=1) == 7
    with pytest.raises(TimeoutError, match="snow in August"):
        wait_until(lambda: False, timeout_s=0.05, what="snow in August")


def mqtt_client(broker: Mosquitto, client_id: str) -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
    client.connect(broker.host, broker.port)
    client.loop_start()
    wait_until(client.is_connected, what="the MQTT connection")
    return client


def test_mosquitto_passes_a_message_on(mosquitto: Mosquitto) -> None:
    received: queue.Queue[bytes] = queue.Queue()
    subscribed: queue.Queue[int] = queue.Queue()
    listener = mqtt_client(mosquitto, "round-trip-listener")
    listener.on_message = lambda _client, _userdata, message: received.put(bytes(message.payload))
    listener.on_subscribe = lambda _client, _userdata, mid, *_rest: subscribed.put(mid)
    speaker = mqtt_client(mosquitto, "round-trip-speaker")
    try:
        listener.subscribe("proof/round-trip", qos=1)
        subscribed.get(timeout=10)
        speaker.publish("proof/round-trip", "豆浆机".encode(), qos=1).wait_for_publish(timeout=10)
        assert received.get(timeout=10).decode() == "豆浆机"
    finally:
        for client in (listener, speaker):
            client.disconnect()
            client.loop_stop()


def test_mosquitto_keeps_a_retained_message_over_a_stop(mosquitto: Mosquitto) -> None:
    speaker = mqtt_client(mosquitto, "retained-speaker")
    speaker.publish("proof/retained", b"kept", qos=1, retain=True).wait_for_publish(timeout=10)
    speaker.disconnect()
    speaker.loop_stop()

    port, pid = mosquitto.port, mosquitto.pid
    mosquitto.stop()
    assert not mosquitto.running
    mosquitto.start()
    assert mosquitto.port == port
    assert mosquitto.pid != pid

    received: queue.Queue[bytes] = queue.Queue()
    listener = mqtt_client(mosquitto, "retained-listener")
    listener.on_message = lambda _client, _userdata, message: received.put(bytes(message.payload))
    try:
        listener.subscribe("proof/retained", qos=1)
        assert received.get(timeout=10) == b"kept"
    finally:
        listener.disconnect()
        listener.loop_stop()


def power_of(server: InfluxDB, bucket: str) -> list[float]:
    query = f'from(bucket: "{bucket}") |> range(start: 0) |> filter(fn: (r) => r._field == "power_w")'
    with InfluxDBClient(url=server.url, token=server.token, org=server.org) as client:
        return [record.get_value() for table in client.query_api().query(query) for record in table.records]


def test_influxdb_keeps_what_was_written_over_a_stop_and_a_crash(influxdb: InfluxDB) -> None:
    bucket = influxdb.fresh_bucket()
    with InfluxDBClient(url=influxdb.url, token=influxdb.token, org=influxdb.org) as client:
        line = "soymilk,serial=SM-1 power_w=8890.5 1763776800123"
        client.write_api(write_options=SYNCHRONOUS).write(bucket=bucket, record=line, write_precision="ms")
    assert power_of(influxdb, bucket) == [8890.5]

    influxdb.stop()
    assert not influxdb.running
    influxdb.start()
    assert power_of(influxdb, bucket) == [8890.5]

    influxdb.kill()
    influxdb.start()
    assert power_of(influxdb, bucket) == [8890.5]


def test_influxdb_has_the_bucket_telemetry(influxdb: InfluxDB) -> None:
    with InfluxDBClient(url=influxdb.url, token=influxdb.token, org=influxdb.org) as client:
        assert client.buckets_api().find_bucket_by_name(influxdb.bucket).name == "telemetry"


def test_postgresql_answers_sql_and_keeps_databases_apart(postgresql: PostgreSQL) -> None:
    first, second = (sa.create_engine(postgresql.fresh_database()) for _ in range(2))
    try:
        with first.begin() as connection:
            connection.execute(sa.text("CREATE TABLE machine (serial text PRIMARY KEY)"))
            connection.execute(sa.text("INSERT INTO machine VALUES ('新风机-1')"))
        with first.connect() as connection:
            assert connection.scalar(sa.text("SELECT serial FROM machine")) == "新风机-1"
        assert not sa.inspect(second).get_table_names()

        first.dispose()
        postgresql.stop()
        postgresql.start()
        with first.connect() as connection:
            assert connection.scalar(sa.text("SELECT serial FROM machine")) == "新风机-1"
    finally:
        first.dispose()
        second.dispose()


@pytest.mark.browser
def test_chromium_draws_chinese_with_a_chinese_font(chromium_path: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        try:
            page = browser.new_page()
            page.set_content("<!doctype html><html lang=zh-CN><title>维修</title><p>试机中 已完成</p>")
            assert page.title() == "维修"
            assert page.inner_text("p") == "试机中 已完成"
            session = page.context.new_cdp_session(page)
            session.send("DOM.enable")
            session.send("CSS.enable")
            root = session.send("DOM.getDocument")["root"]["nodeId"]
            node = session.send("DOM.querySelector", {"nodeId": root, "selector": "p"})["nodeId"]
            fonts = session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
            assert any("CJK" in font["familyName"] and font["glyphCount"] >= 6 for font in fonts), fonts
        finally:
            browser.close()


class Refusing(Server):
    """A program that ends at once, as a server with an unusable configuration does."""

    name = "refusing"

    def command(self) -> list[str]:
        return [sys.executable, "-c", "print('no such option'); raise SystemExit(3)"]

    def is_ready(self) -> bool:
        return False


def test_a_server_that_ends_at_once_shows_its_log_and_leaves_no_folder() -> None:
    server = Refusing()
    with pytest.raises(ServerFailedError, match="no such option"), server:
        pass
    assert not server.folder.exists()


def test_free_ports_differ_while_they_are_taken() -> None:
    assert 20_000 <= free_port() < 32_000
