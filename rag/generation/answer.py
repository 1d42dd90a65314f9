"""A grounded answer from any chat model: what it says as it says it, then the answer with its citations.

The pieces joined are always the answer's text. A reply that the model had to break off ends with `CUT`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence

from rag.errors import Problem, ProviderFailed
from rag.generation.citations import cited
from rag.generation.prompt import ABSTENTION, Prompt
from rag.ports import ChatModel
from rag.types import Answer, Completion, Passage, Usage

CUT = " …"
"""Ends the text of an answer that reached max_tokens."""
REFUSED = frozenset({"refusal", "content_filter"})
"""Reasons to finish that leave no answer."""
_ENDS = frozenset(".!?…。\n\r\"'”’*_`)][")  # noqa: RUF001 - typographic quotes end sentences


class GroundedGenerator:
    """**Generator** over a chat model and a prompt.

    The model is not called without a question, nor without passages where the prompt has a place for them.
    """

    def __init__(self, chat: ChatModel, prompt: Prompt, max_tokens: int) -> None:
        self.name = chat.name
        self.chat = chat
        self.prompt = prompt
        self.max_tokens = max_tokens

    async def close(self) -> None:
        """Let go of the chat model's connections."""
        close = getattr(self.chat, "close", None)
        if close is not None:
            await close()

    async def answer(self, question: str, passages: Sequence[Passage]) -> AsyncIterator[str | Answer]:
        """Pieces of text as they come, then the Answer.

        Raises what the chat model raises; ProviderFailed also for a refusal, and for an empty reply that was cut off:
        neither says anything about the passages.
        """
        if self._needless(question, passages):
            yield ABSTENTION
            yield self._abstained(question, passages, self.name, Usage())
            return
        reply = _Reply(self.prompt.abstain)
        heard = 0
        completion: Completion | None = None
        async for item in self.chat.stream(self.prompt.messages(question, passages), self.max_tokens):
            if isinstance(item, Completion):
                completion = item
                break
            heard += len(item)
            if piece := reply.feed(item):
                yield piece
        if completion is None:
            raise _failed(self.name, "the reply ended without its end", "ask again")
        # a stored completion comes whole, without pieces
        if piece := reply.feed(completion.text[heard:]) + reply.end(cut=completion.finish_reason == "length"):
            yield piece
        answer = self._made(question, passages, completion, reply)
        if answer.abstained:
            yield answer.text
        yield answer

    async def complete(self, question: str, passages: Sequence[Passage]) -> Answer:
        """The same answer, asked for whole."""
        if self._needless(question, passages):
            return self._abstained(question, passages, self.name, Usage())
        completion = await self.chat.complete(self.prompt.messages(question, passages), self.max_tokens)
        reply = _Reply(self.prompt.abstain)
        reply.feed(completion.text)
        reply.end(cut=completion.finish_reason == "length")
        return self._made(question, passages, completion, reply)

    def _needless(self, question: str, passages: Sequence[Passage]) -> bool:
        return not question.strip() or (self.prompt.takes_passages and not passages)

    def _made(self, question: str, passages: Sequence[Passage], completion: Completion, reply: _Reply) -> Answer:
        if completion.finish_reason in REFUSED:
            raise _failed(self.name, f"the model refused ({completion.finish_reason})", "ask something else")
        if reply.abstains:
            if completion.finish_reason == "length" and not completion.text.strip():
                what = f"the model wrote nothing within max_tokens = {self.max_tokens}"
                raise _failed(self.name, what, "raise generation.max_tokens: models that think first need more")
            return self._abstained(question, passages, completion.model, completion.usage)
        return Answer(
            question=question,
            text=reply.text,
            abstained=False,
            citations=cited(reply.text, passages),
            passages=tuple(passages),
            model=completion.model,
            prompt=self.prompt.label,
            usage=completion.usage,
        )

    def _abstained(self, question: str, passages: Sequence[Passage], model: str, usage: Usage) -> Answer:
        return Answer(question, ABSTENTION, True, (), tuple(passages), model, self.prompt.label, usage)  # noqa: FBT003


class _Reply:
    """What has been said so far, and whether it is the abstention.

    The beginning is held back while it may still become the abstaining sentence, and white space while it may be the
    end; the outcome does not depend on how the text was cut into pieces.
    """

    def __init__(self, abstain: str) -> None:
        wanted = _plain(abstain)
        self._wanted = wanted
        self._sentence = re.compile(r"[\W_]*" + r"[\W_]+".join(map(re.escape, wanted.split())), re.IGNORECASE)
        self._bound = 4 * len(abstain) + 64
        self._held = ""
        self._said: list[str] = []
        self.abstains: bool | None = None

    @property
    def text(self) -> str:
        return "".join(self._said)

    def feed(self, piece: str) -> str:
        """What may be shown now."""
        self._held += piece
        if self.abstains is None:
            self.abstains = self._decide(final=len(self._held) >= self._bound)
        if self.abstains is not False:
            return ""
        if not self._said:
            self._held = self._held.lstrip()
        shown = self._held.rstrip()
        self._held = self._held[len(shown) :]
        if shown:
            self._said.append(shown)
        return shown

    def end(self, *, cut: bool) -> str:
        """What was held back, and the sign that the reply was cut."""
        if self.abstains is None:
            self.abstains = self._decide(final=True)
        shown = "" if self.abstains else self.feed("") + (CUT if cut else "")
        if cut and shown:
            self._said.append(CUT)
        return shown

    def _decide(self, *, final: bool) -> bool | None:
        begun = self._held[: self._bound]
        if match := self._sentence.match(begun):
            behind = begun[match.end() :].lstrip(" \t")
            if behind:
                return behind[0] in _ENDS
            return True if final else None
        said = _plain(begun)
        if final:
            return not said
        return None if self._wanted.startswith(said) else False


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip().lower()


def _failed(name: str, what: str, remedy: str) -> ProviderFailed:
    return ProviderFailed(f"{name}: {what}", [Problem(f"generation.model = {name!r}", what, remedy)])
