"""Kinds of values that addresses and forms carry."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

LARGEST_ID = 2**31 - 1
RowId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
"""A row's id in an address; anything else is a page that does not exist."""
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]
"""Page of a list, from 1."""


def several(name: str) -> Any:
    """Dependency: every text that a form sent under one name (ticks). ``roles: Annotated[list[str], several("roles")]``."""

    async def read(request: Request) -> list[str]:
        return [text for text in (await request.form()).getlist(name) if isinstance(text, str)]

    return Depends(read)
