"""The portal's figures for Prometheus: requests by route and status, open tickets by state. They listen apart from the
pages (``BREWAIR_METRICS_BIND``), so that no proxy shows them to the world by mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import UnavailableError
from domain.store.queries.tickets import open_by_state
from domain.store.session import Sessions

NO_ROUTE = "none"
"""Of requests that no route takes: their paths are made up by strangers."""


class Requests:
    """How many answers there were, by route template, method and status."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, int]] = Counter()

    def count(self, route: str, method: str, status: int) -> None:
        """One more."""
        self.counts[route, method, status] += 1

    def figures(self, tickets: Mapping[str, int] | None) -> Iterator[Metric]:
        """What Prometheus reads; without ``tickets`` (SQL is away) only the requests."""
        requests = CounterMetricFamily(
            "brewair_portal_requests", "Answers of the portal.", labels=("route", "method", "status")
        )
        for (route, method, status), count in sorted(self.counts.copy().items()):
            requests.add_metric((route, method, str(status)), count)
        yield requests
        if tickets is not None:
            states = GaugeMetricFamily(
                "brewair_open_tickets", "Tickets that are not over, by state.", labels=("state",)
            )
            for state, count in sorted(tickets.items()):
                states.add_metric((state,), count)
            yield states

    def look(self, sessions: Sessions) -> Iterator[Metric]:
        """The figures as they are now."""
        try:
            with sessions.read() as session:
                tickets = open_by_state(session)
        except UnavailableError:
            yield from self.figures(None)
        else:
            yield from self.figures(tickets)


class Counted:
    """ASGI middleware that counts what is answered."""

    def __init__(self, app: ASGIApp, *, requests: Requests) -> None:
        self.app, self._requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                path = route.path if isinstance(route, Route) else NO_ROUTE
                self._requests.count(path, str(scope["method"]), int(message["status"]))
            await send(message)

        await self.app(scope, receive, send_and_count)
