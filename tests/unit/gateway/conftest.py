"""What stands on a ``Plant`` is tested twice: with Python alone, and with the compiled core for ordinary messages."""

from __future__ import annotations

import pytest

from gateway.core.library import library
from tests.servers import ServerMissingError, do_without
from tests.unit.gateway.plant import Plant


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if getattr(metafunc.module, "Plant", None) is Plant:
        metafunc.fixturenames.insert(0, "core")
        metafunc.parametrize("core", ["python", "compiled"], indirect=True)


@pytest.fixture
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of the two this run is."""
    if request.param == "compiled" and library() is None:
        do_without("core", ServerMissingError("the compiled core was not built (Rust's cargo, then pip install again)"))
    monkeypatch.setattr(Plant, "compiled", request.param == "compiled")
