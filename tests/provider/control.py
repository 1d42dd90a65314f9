"""What only the test may ask: /sim/log, /sim/bill, /sim/span; /sim/limits, /sim/faults, /sim/batch ... Never counted."""

from __future__ import annotations

from typing import Any

from tests.provider.app import Account
from tests.provider.errors import Refused
from tests.provider.http import Reply, Request
from tests.provider.placement import Placement


def control(account: Account, request: Request) -> Reply:
    try:
        match request.method, request.path.removeprefix("/sim/"):
            case "GET", "log":
                texts = request.query.get("texts") == "1"
                return Reply.of([entry.plain(texts=texts) for entry in account.entries])
            case "GET", "bill":
                return Reply.of(account.bill.plain())
            case "GET", "span":
                return Reply.of(account.span(request.query.get("model", "")))
            case "GET", "limits":
                return Reply.of(account.limits)
            case "POST", "limits":
                account.change_limits(request.json())
            case "POST", "faults":
                _place(account, request.json())
            case "GET", "batches":
                return account.batches.listed({"limit": "1000000"})
            case "GET", "files":
                return account.files.listed()
            case "POST", "batch":
                account.batches.change(request.json())
            case "POST", "forget":
                account.batches.forget(request.json()["batch"])
            case "POST", "reset":
                account.reset()
            case _:
                return Reply.of({"error": f"nothing at {request.method} {request.path}"}, 404)
    except (ValueError, TypeError, KeyError, Refused) as error:
        return Reply.of({"error": str(error)}, 400)
    return Reply.of({})


def _place(account: Account, given: Any) -> None:
    """A list replaces what is placed; one placement is added to it. Those that came first strike first."""
    if isinstance(given, list):
        account.placements = [Placement.of(placement) for placement in given]
    else:
        account.placements.append(Placement.of(given))
