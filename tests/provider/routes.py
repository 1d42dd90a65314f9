"""Which part answers which address."""

from __future__ import annotations

from tests.provider.app import WORK, Account
from tests.provider.control import control
from tests.provider.errors import Refused, missing
from tests.provider.http import Reply, Request


class Routes:
    def __init__(self, account: Account) -> None:
        self.account = account

    async def __call__(self, request: Request) -> Reply:
        if request.path.startswith("/sim/"):
            return control(self.account, request)
        if request.method == "POST" and request.path in WORK:
            return await self.account.work(request)
        try:
            self.account.admit_key(request)
            return self._listed(request)
        except Refused as refused:
            return refused.reply(request.path)

    def _listed(self, request: Request) -> Reply:
        if (request.method, request.path) == ("GET", "/v1/models"):
            models = self.account.house.models()
            items = [{"id": name, "object": "model", "created": 1, "owned_by": "sim"} for name in models]
            return Reply.of({"object": "list", "data": items})
        raise missing("address", f"{request.method} {request.path}")
