"""What an account was last seen to allow, kept in the store: the next run starts from it, and its plan knows the minutes.

`limits.json` of the store, sealed as CURRENT is. Only numbers that a server has told are kept, never a setting, and no
key: an account is named by its provider, server, model and the variable of its key.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from rag.clock import text
from rag.errors import Damaged, FormatTooNew
from rag.providers.address import other_server
from rag.providers.secrets import key_variable
from rag.providers.settings import UNTOLD, Allowed, ModelSettings
from rag.sealed import read_sealed, write_sealed
from rag.types import Json

FORMAT = 1
NAME = "limits.json"


def allowed(store: Path, settings: ModelSettings) -> Allowed:
    """What the account of a model was last told; nothing where that was never, or cannot be read: then it is told anew."""
    try:
        found = _accounts(store).get(_name(settings))
    except FormatTooNew:
        return UNTOLD
    if not isinstance(found, dict):
        return UNTOLD
    return Allowed(_limit(found.get("requests_per_minute")), _limit(found.get("tokens_per_minute")))


def remember(store: Path, settings: ModelSettings, told: Allowed, at: datetime) -> None:
    """Keep what a server has told in this run. Raises StorageFailed."""
    if told in (UNTOLD, allowed(store, settings)):
        return
    try:
        accounts = _accounts(store)
    except FormatTooNew:
        return  # a newer program's memory is left as it is
    accounts[_name(settings)] = {
        "requests_per_minute": told.requests,
        "tokens_per_minute": told.tokens,
        "at": text(at),
    }
    write_sealed(store / NAME, {"format": FORMAT, "accounts": accounts})


def _accounts(store: Path) -> dict[str, Json]:
    try:
        found = read_sealed(store / NAME, FORMAT).get("accounts")
    except (OSError, Damaged):
        return {}
    return dict(found) if isinstance(found, dict) else {}


def _name(settings: ModelSettings) -> str:
    server = other_server(settings.provider, settings.base_url) or settings.provider
    return " ".join((server, settings.name, key_variable(settings) or "-"))


def _limit(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
