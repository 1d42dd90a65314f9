"""Models whose every answer stands in an account before anybody sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from rag.embedding.account import Account
from rag.ports import ChatModel, Embedded, EmbeddingModel
from rag.types import Completion, Message, RequestLimits, Role, Usage


class BookedEmbedding:
    """**EmbeddingModel** over one that is paid."""

    def __init__(self, model: EmbeddingModel, account: Account, usd: Callable[[int], float | None]) -> None:
        """`usd` is the price of tokens, None where none is known."""
        self.identity = model.identity
        self._model = model
        self._account = account
        self._usd = usd

    @property
    def limits(self) -> RequestLimits:
        """Those of the model, which may learn them."""
        return self._model.limits

    async def embed(self, texts: Sequence[str], role: Role) -> Embedded:
        """As the model."""
        self._account.open()
        answer = await self._model.embed(texts, role)
        self._account.bill(Usage(1, answer.tokens, 0, self._usd(answer.tokens)))
        return answer

    async def close(self) -> None:
        """Close the model's connections."""
        await _close(self._model)


class BookedChat:
    """**ChatModel** over one that is paid."""

    def __init__(self, chat: ChatModel, account: Account) -> None:
        self.name = chat.name
        self._chat = chat
        self._account = account

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        """As the model."""
        self._account.open()
        found = await self._chat.complete(messages, max_tokens)
        self._account.bill(found.usage)
        return found

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        """As the model."""
        self._account.open()
        async for item in self._chat.stream(messages, max_tokens):
            if isinstance(item, Completion):
                self._account.bill(item.usage)
            yield item

    async def close(self) -> None:
        """Close the model's connections."""
        await _close(self._chat)


async def _close(model: object) -> None:
    close = getattr(model, "close", None)
    if close is not None:
        await close()
