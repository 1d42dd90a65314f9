"""A chat model as judge of answers and passages: five measures, each with a prompt, a strict reply and a reason.

Every call goes through a chat model at the port. A reply that is not what was asked for gets one second attempt with the
mistake named; after that the verdict has no value, and whoever scores counts it as unscored. No reply is guessed at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from eval.answers import AnswerStore
from eval.cached import CachedChat, Call
from eval.judging import replies
from eval.judging.prompts import judging_messages, load_prompts
from eval.judging.replies import Found, Unusable
from rag.clock import Clock, SystemClock
from rag.embedding.account import Account
from rag.generation.answer import REFUSED
from rag.generation.prompt import Prompt
from rag.ports import ChatModel
from rag.types import Completion, Json, Message, Passage, Usage

MAX_TOKENS: Final = 1_024
"""Of a reply: room for models that think before they write."""
FORMAT: Final = 1
"""Goes up when the same replies give other verdicts."""
ROLES: Final[Mapping[str, str]] = {
    "correctness": "Correctness",
    "faithfulness": "Faithfulness",
    "answer_relevance": "AnswerRelevance",
    "context_precision": "ContextPrecision",
    "context_recall": "ContextRecall",
}
"""Each prompt with the measure that it serves."""


class Asking(Protocol):
    """**Protocol:** messages -> a reply with what it took, as `eval.cached.CachedChat` has it."""

    async def ask(self, messages: Sequence[Message], max_tokens: int) -> Call: ...


class Directly:
    """Every question goes to the model, and is timed."""

    def __init__(self, chat: ChatModel, clock: Clock) -> None:
        self._chat = chat
        self._clock = clock

    async def ask(self, messages: Sequence[Message], max_tokens: int) -> Call:
        """A call that was paid now. Raises what the chat model raises."""
        begun = self._clock.monotonic()
        completion = await self._chat.complete(messages, max_tokens)
        return Call(completion, self._clock.monotonic() - begun, cached=False)


_NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of one thing."""

    value: float | None
    """In [0, 1]; None is unscored: no usable reply, or nothing to judge. `reason` says which."""
    reason: str
    usage: Usage = _NOTHING
    """What the calls of this verdict were billed; nothing for cached ones."""
    seconds: float = 0.0
    """Of the calls that were paid, now or when they came into the store."""
    cached: bool = False
    """Whether there were calls, and all of them came from the store."""
    usd_saved: float | None = 0.0
    """What the cached calls had cost; None where no price is known."""


class Judge:
    """The five judged measures. All methods raise what the chat model raises: a failed call is no verdict."""

    def __init__(
        self,
        chat: ChatModel,
        prompts: Mapping[str, Prompt] | None = None,
        store: AnswerStore | None = None,
        *,
        base_url: str = "",
        max_tokens: int = MAX_TOKENS,
        fresh: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """Nothing is sent yet.

        Parameters
        ----------
        chat
            The model that judges.
        prompts
            As `load_prompts` gives them; None takes the shipped ones.
        store
            Where replies are kept and looked for, each under its prompt; None asks the model every time.
        base_url
            Of the model, as `rag.wiring` gives it: part of the keys of the store, and of the judge's identity.
        max_tokens
            Of one reply.
        fresh
            Look for no reply of an earlier run.
        """
        self.name = chat.name
        self._chat = chat
        self.prompts: Mapping[str, Prompt] = prompts or load_prompts()
        self._asking: dict[str, Asking] = {
            name: CachedChat(chat, store, base_url, prompt.sha256, {}, fresh=fresh)
            if store is not None
            else Directly(chat, clock or SystemClock())
            for name, prompt in self.prompts.items()
        }
        self._base_url = base_url
        self._max_tokens = max_tokens
        self.account: Account | None = None
        """Where what the chat model is paid stands, whoever made both: a judge only carries it along."""

    async def close(self) -> None:
        """Close the model's connections."""
        close = getattr(self._chat, "close", None)
        if close is not None:
            await close()

    def identity(self, *names: str) -> dict[str, Json]:
        """What the verdicts of these prompts, by default of all, hang on; no secret is in it."""
        return {
            "format": FORMAT,
            "model": self.name,
            "base_url": self._base_url,
            "max_tokens": self._max_tokens,
            "prompts": [self._identity(name) for name in names or self.prompts],
        }

    def _identity(self, name: str) -> dict[str, Json]:
        prompt = self.prompts[name]
        return {"role": ROLES[name], "path": prompt.label, "version": prompt.version, "sha256": prompt.sha256}

    async def correctness(self, question: str, expected: Sequence[str], answer: str) -> Verdict:
        """Correctness: 1 where the answer says what one of the accepted answers says, else 0.

        A single binary verdict with a reason, reference-guided, as in Zheng and others (NeurIPS 2023, section 3.1) and
        in Kamalloo and others (ACL 2023), who check it against people. An empty answer is wrong without a call.
        """
        if not _some(expected):
            return Verdict(None, "no accepted answer is known")
        if not answer.strip():
            return Verdict(0.0, "the answer is empty")
        return await self._judge("correctness", replies.correctness, question, _some(expected), answer)

    async def faithfulness(self, question: str, passages: Sequence[Passage], answer: str) -> Verdict:
        """Faithfulness: supported claims / claims of the answer, by the passages that the generator was given.

        The definition of Ragas (Es and others, EACL 2024), with claims and verdicts in one reply. Without a passage
        nothing is supported: 0 without a call. Unscored where the answer is empty or claims nothing.
        """
        if not answer.strip():
            return Verdict(None, "the answer is empty, so it claims nothing")
        if not passages:
            return Verdict(0.0, "there is no passage that could support the answer")
        return await self._judge("faithfulness", replies.supported, question, (), answer, passages)

    async def answer_relevance(self, question: str, answer: str) -> Verdict:
        """AnswerRelevance: statements of the answer that speak to the question / its statements, true or not.

        The share that DeepEval calls answer relevancy; Ragas means another thing by it, the likeness of the question
        to questions made from the answer. An empty answer is 0 without a call.
        """
        if not answer.strip():
            return Verdict(0.0, "the answer is empty")
        return await self._judge("answer_relevance", replies.relevant, question, (), answer)

    async def context_precision(self, question: str, expected: Sequence[str], passages: Sequence[Passage]) -> Verdict:
        """ContextPrecision: mean of precision@k over the ranks k of the relevant passages, 0 without any.

        The rank-aware context precision of the library Ragas: divided by the relevant passages retrieved, not by all
        there are. No passage at all is 0 without a call.
        """
        if not _some(expected):
            return Verdict(None, "no accepted answer is known")
        if not passages:
            return Verdict(0.0, "no passage was retrieved")

        def read(text: str) -> Found:
            return replies.precision(text, len(passages))

        return await self._judge("context_precision", read, question, _some(expected), "", passages)

    async def context_recall(self, question: str, expected: Sequence[str], passages: Sequence[Passage]) -> Verdict:
        """ContextRecall: supported claims / claims of the accepted answer that the passages support best.

        The definition of the library Ragas for one accepted answer (its paper has no such measure); of several that are
        equally right, the best supported counts, as in EM and F1. No passage at all is 0 without a call.
        """
        if not _some(expected):
            return Verdict(None, "no accepted answer is known")
        if not passages:
            return Verdict(0.0, "no passage was retrieved")
        return await self._judge("context_recall", replies.supported, question, _some(expected), "", passages)

    async def _judge(
        self,
        name: str,
        read: Callable[[str], Found],
        question: str,
        expected: Sequence[str],
        answer: str,
        passages: Sequence[Passage] = (),
    ) -> Verdict:
        prompt = self.prompts[name]
        calls: list[Call] = []
        mistakes: list[str] = []
        found: Found | None = None
        while found is None and len(calls) < 2:
            mistake = mistakes[-1] if mistakes else None
            messages = judging_messages(prompt, question, expected, answer, passages, mistake)
            calls.append(await self._asking[name].ask(messages, self._max_tokens))
            try:
                found = _read(calls[-1].completion, read)
            except Unusable as error:
                mistakes.append(str(error))
        return Verdict(
            value=found.value if found else None,
            reason=found.reason if found else f"no usable reply: {', then '.join(dict.fromkeys(mistakes))}",
            usage=sum((call.usage for call in calls), _NOTHING),
            seconds=sum(call.seconds for call in calls),
            cached=all(call.cached for call in calls),
            usd_saved=sum((Usage(usd=call.usd_saved) for call in calls), _NOTHING).usd,
        )


def _read(completion: Completion, read: Callable[[str], Found]) -> Found:
    if completion.finish_reason in REFUSED:
        raise Unusable("the model declined to judge")
    try:
        return read(completion.text)
    except Unusable:
        if completion.finish_reason == "length":
            raise Unusable("it was longer than it may be, and so cut off") from None
        raise


def _some(expected: Sequence[str]) -> tuple[str, ...]:
    return tuple(text for text in dict.fromkeys(expected) if text.strip())
