"""Where a model answers: at its provider's own service, at another server, on this machine."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote, urlsplit

from rag.errors import Problem, SettingsError
from rag.providers.models import PROVIDERS


def other_server(provider: str, base_url: str | None) -> str:
    """The plain address of a server that is not the provider's own; empty for its own. Raises SettingsError."""
    if not base_url:
        return ""
    url, own = plain_url(base_url), PROVIDERS.get(provider)
    return "" if own and own.url and url == plain_url(own.url) else url


def plain_url(url: str) -> str:
    """An address as it is compared and shown: lower case, no default port, slash at the end, user or password.

    Raises SettingsError for what is no http address, and for one with a query.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme.lower() not in ("http", "https") or not url.isprintable() or " " in url:
        shown = re.sub(r"^.*@", "", url, flags=re.DOTALL)  # what stands before it may be a password, wrongly written
        what = f"{shown!r} is not the address of a server"
        raise SettingsError("base_url is not an address", [Problem("base_url", what, "write http://host:port/v1")])
    if "?" in url or "#" in url:
        what = "the address of a server takes no query: no request would carry it"
        raise SettingsError.at("base_url", what, "leave out what begins with ? or #")
    scheme = parts.scheme.lower()
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != {"http": 80, "https": 443}[scheme]:
        host = f"{host}:{port}"
    return f"{scheme}://{host}{parts.path.rstrip('/')}"


def secrets_in(url: str | None) -> set[str]:
    """User and password of an address, as they may be said again: each as it is written and as it is meant."""
    parts = urlsplit(url or "")
    user, password = parts.username or "", parts.password or ""
    found = {password, unquote(password), f"{unquote(user)}:{unquote(password)}"}
    return found if password else {user, unquote(user)}


def on_this_machine(base_url: str | None) -> bool:
    """Whether an address is loopback, by its form alone."""
    host = (urlsplit(base_url).hostname or "") if base_url else ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
