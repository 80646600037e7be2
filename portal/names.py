"""The catalogue's names, which it holds in both languages."""

from __future__ import annotations

from typing import Protocol


class Named(Protocol):
    """Something of the catalogue with a name in both languages."""

    @property
    def name_zh(self) -> str: ...

    @property
    def name_en(self) -> str: ...


def name_in(thing: Named, locale: str) -> str:
    """The name in the reader's language."""
    return thing.name_zh if locale.startswith("zh") else thing.name_en
