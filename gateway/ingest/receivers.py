"""Every receiver, by the name that ``BREWAIR_MQTT_RECEIVER`` gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.ingest.native_receiver import NativeReceiver
from gateway.ingest.paho_receiver import PahoReceiver
from gateway.ingest.receiver import Receiver

RECEIVERS: Mapping[str, Callable[..., Receiver]] = {"native": NativeReceiver, "paho": PahoReceiver}
