"""``python -m portal``: the portal with production settings, until a signal ends it."""

from __future__ import annotations

import signal
import threading

from domain.clock import Clock, SystemClock
from domain.metrics import serving
from domain.settings import Settings, load
from portal.serve import open_portal, serve


def main(settings: Settings | None = None, clock: Clock | None = None) -> None:
    """Serves until SIGINT or SIGTERM. Raises SettingsError for what keeps it from starting."""
    settings = settings or load()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    app = open_portal(settings, clock or SystemClock())
    with serving(settings.metrics_bind, lambda: app.state.requests.look(app.state.portal.sessions)):
        serve(app, settings.portal_bind, stop)


if __name__ == "__main__":
    main()
