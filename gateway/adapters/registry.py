"""ADAPTERS: every convention the gateway understands. Another one is a file beside this and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.adapters.native import NativeAdapter
from gateway.adapters.port import Adapter
from gateway.adapters.tasmota import TasmotaAdapter

ADAPTERS: Mapping[str, Adapter] = {
    adapter.convention: adapter
    for adapter in (
        NativeAdapter(),
        TasmotaAdapter(),
    )
}
