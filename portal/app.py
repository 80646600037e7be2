"""The portal as one FastAPI application. ``PAGES`` is the site map."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from domain import __version__
from domain.clock import Clock, SystemClock
from domain.errors import BrewairError
from domain.settings import Settings
from domain.store.session import Sessions
from domain.telemetry.port import Telemetry
from portal import errors
from portal.auth import Logins, Wall, portal_secret
from portal.deps import AnyPage, Portal, page_router
from portal.headers import Headers
from portal.live import Live
from portal.metrics import Counted, Requests
from portal.pages import (
    board,
    calls,
    customers,
    dealer,
    dispatch,
    equipment,
    gallery,
    imports,
    login,
    notices,
    people,
    quarantine,
    runs,
    stream,
    tickets,
    today,
    unclaimed,
)
from portal.render import STATIC, Assets, renderer_for

PAGES: tuple[ModuleType, ...] = (
    login,
    board,
    stream,
    gallery,
    tickets,
    runs,
    today,
    dispatch,
    notices,
    calls,
    equipment,
    customers,
    dealer,
    people,
    imports,
    quarantine,
    unclaimed,
)
"""One module per noun; each has a ``router``."""

FOREVER = "public, max-age=31536000, immutable"


def create_app(
    settings: Settings, clock: Clock, sessions: Sessions, telemetry: Telemetry, *, wall: Wall | None = None
) -> FastAPI:
    """The application. ``clock`` is business time; ``wall`` (default the machine's) is that of log-in sessions.

    Raises SettingsError when the secret file or the front-end packages cannot be used.
    """
    portal = Portal(
        settings=settings,
        clock=clock,
        sessions=sessions,
        telemetry=telemetry,
        logins=Logins(sessions, wall or SystemClock(), portal_secret(settings.secret_file)),
        renderer=renderer_for(settings.timezone),
        live=Live(sessions),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        portal.live.close()

    app = FastAPI(
        title="brewair", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.portal = portal
    for module in PAGES:
        app.include_router(module.router)
    app.include_router(_operations())
    # The navigation leaves out what has no page.
    portal.paths.update(route.path for route in routes() if "GET" in (route.methods or ()))
    errors.install(app)
    app.state.requests = Requests()
    app.add_middleware(Counted, requests=app.state.requests)
    app.add_middleware(Headers, secure=portal.secure)
    # Cookies are SameSite=Lax, so that no other site can make our answers to compare their compressed lengths.
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    return app


def routes() -> list[APIRoute]:
    """Every route of every page."""
    return [route for module in PAGES for route in module.router.routes if isinstance(route, APIRoute)]


def _operations() -> APIRouter:
    """Where ``/`` leads, static files, and the probes of whoever runs the process."""
    router = page_router()

    @router.get("/")
    def home(page: AnyPage) -> Response:
        return RedirectResponse(page.home(), status_code=303)

    @router.get("/static/{name:path}")
    def static(request: Request, name: str, v: str | None = None) -> Response:
        path = (STATIC / name).resolve()
        if not path.is_relative_to(STATIC) or not path.is_file():
            raise HTTPException(404)
        assets: Assets = request.app.state.portal.renderer.assets
        return FileResponse(path, headers={"Cache-Control": FOREVER if assets.is_current(name, v) else "no-cache"})

    @router.get("/healthz")
    def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz")
    def readyz(request: Request) -> JSONResponse:
        portal: Portal = request.app.state.portal
        checks = {"database": portal.live.last_id, "telemetry": portal.telemetry.ping}
        found = {name: _answers(check) for name, check in checks.items()}
        return JSONResponse(found, status_code=200 if all(text == "ok" for text in found.values()) else 503)

    return router


def _answers(check: Callable[[], object]) -> str:
    try:
        check()
    except BrewairError as error:
        return str(error)
    return "ok"
