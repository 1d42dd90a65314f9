"""Which part answers which address."""

from __future__ import annotations

from tests.provider import errors
from tests.provider.app import WORK, Account
from tests.provider.control import control
from tests.provider.errors import missing
from tests.provider.http import Reply, Request


class Routes:
    def __init__(self, account: Account) -> None:
        self.account = account

    async def __call__(self, request: Request) -> Reply:
        if request.path.startswith("/sim/"):
            return control(self.account, request)
        if request.method == "POST" and request.path in WORK:
            return await self.account.work(request)
        return self.account.other(request, self._answer)

    def _answer(self, request: Request) -> Reply:
        """Raises Refused."""
        files, batches = self.account.files, self.account.batches
        match request.method, request.path.strip("/").split("/")[1:]:
            case "GET", ["models"]:
                names = self.account.house.models()
                items = [{"id": name, "object": "model", "created": 1, "owned_by": "sim"} for name in names]
                return Reply.of({"object": "list", "data": items})
            case "POST", ["files"]:
                return files.upload(request, batches.terms.max_bytes)
            case "GET", ["files"]:
                return files.listed()
            case "GET", ["files", name]:
                return Reply.of(files.get(name).plain())
            case "GET", ["files", name, "content"]:
                return files.content(name)
            case "DELETE", ["files", name]:
                return files.delete(name)
            case "POST", ["batches"]:
                return batches.create(_object(request))
            case "GET", ["batches"]:
                return batches.listed(request.query)
            case "GET", ["batches", name]:
                return batches.shown(name)
            case "POST", ["batches", name, "cancel"]:
                return batches.cancel(name)
            case _:
                raise missing("address", f"{request.method} {request.path}")


def _object(request: Request) -> dict[str, object]:
    try:
        body = request.json()
    except ValueError as error:
        raise errors.wrong("We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise errors.wrong("The body of your request must be an object.")
    return body
