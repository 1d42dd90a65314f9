"""Settings become objects: the one place that knows every implementation.

A notebook begins here:

    import rag
    desk = rag.open("ragline.toml")
    desk.ask("When does the last train leave the Summit?").text
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rag.clock import Clock, SystemClock
from rag.counted import counted
from rag.errors import KeyMissing, Problem, ProviderFailed, SettingsError, UnknownModel, UsageError
from rag.providers.settings import UNTOLD, Allowed, ModelSettings, Surroundings
from rag.settings import Chunking, Embedding, Generation, Judge, Settings, load

if TYPE_CHECKING:
    from rag.chunking.tokens import Tokenizer
    from rag.corpus.spec import CorpusSpec
    from rag.embedding.account import Account
    from rag.embedding.plan import Terms
    from rag.index.experiments import Experiments
    from rag.index.search import OpenVersion
    from rag.index.versions import Versions
    from rag.pipeline import Options, Parts, Progress, Reindex
    from rag.ports import ChatModel, EmbeddingModel, Floats, Generator, Retriever
    from rag.providers.models import Model, Price
    from rag.types import Answer, EmbeddingIdentity, Passage


@dataclass(frozen=True, slots=True)
class World:
    """What comes from outside: time and the environment that holds the keys."""

    clock: Clock
    environment: Mapping[str, str]

    @classmethod
    def real(cls) -> World:
        return cls(SystemClock(), os.environ)


def prices(settings: Settings) -> dict[str, Price]:
    """The overrides of the price table."""
    from rag.providers.models import Price

    return {name: Price(price.input, price.output, batch=price.batch) for name, price in settings.prices.items()}


def embedding_settings(settings: Settings) -> ModelSettings:
    """The embedding model as a provider is asked for it."""
    return replace(_asked(settings.embedding, settings), dimensions=settings.embedding.dimensions)


def _asked(section: Embedding | Generation | Judge, settings: Settings) -> ModelSettings:
    if section.model is None:
        raise SettingsError.at("judge.model", "no judge is named", 'write [judge] model = "openai/..." in ragline.toml')
    return ModelSettings(
        model=section.model,
        base_url=section.base_url,
        api_key_env=section.api_key_env,
        requests_per_minute=section.requests_per_minute,
        tokens_per_minute=section.tokens_per_minute,
        concurrency=section.concurrency,
        timeout=section.timeout_seconds,
        prices=prices(settings),
    )


def embedding_model(
    asked: ModelSettings, tokenizer: Tokenizer | None, world: World, allowed: Allowed = UNTOLD
) -> EmbeddingModel:
    """The model of some settings, and what its account was last told. Raises UnknownModel, SettingsError."""
    from rag.providers import registry

    # an upper bound would reserve several times what is billed
    count = tokenizer.count if tokenizer and tokenizer.exact else None
    around = Surroundings(world.clock, world.environment, count=count, allowed=allowed)
    return registry.embedding_model(asked, around)


def corpus_spec(settings: Settings) -> CorpusSpec:
    """The corpus of the settings. Raises UsageError where none is named."""
    from rag.corpus.spec import CorpusSpec

    corpus = settings.corpus
    if not corpus.paths:
        remedy = 'set [corpus] paths = ["folder"] in ragline.toml, or give --set corpus.paths=\'["folder"]\''
        raise UsageError.at("corpus.paths", "no corpus is named", remedy)
    return CorpusSpec(
        paths=corpus.paths,
        include=corpus.include,
        exclude=corpus.exclude,
        encoding=corpus.encoding,
        id_column=corpus.id_column,
        text_column=corpus.text_column,
        title_column=corpus.title_column,
        store=settings.store,
    )


def terms(settings: Settings, model: EmbeddingModel, allowed: Allowed) -> Terms:
    """What embedding costs and what may be spent; an account that allows less than the settings is the one that counts."""
    from rag.embedding.plan import Terms
    from rag.providers.prices import price

    asked = settings.embedding
    known = price(asked.model, asked.base_url, prices(settings))
    free = model.identity.provider == "local"
    return Terms(
        limits=model.limits,
        free=free,
        usd_per_million=known.input if known else None,
        priced_on=(known.as_of or "settings") if known and not free else None,
        max_usd=asked.max_usd,
        max_usd_per_month=asked.max_usd_per_month,
        max_tokens=asked.max_tokens,
        requests_per_minute=_tighter(asked.requests_per_minute, allowed.requests),
        tokens_per_minute=_tighter(asked.tokens_per_minute, allowed.tokens),
    )


def _tighter(asked: int | None, told: float | None) -> int | None:
    return min((int(each) for each in (asked, told) if each is not None), default=None)


def parts(settings: Settings, world: World) -> Parts:
    """Everything that a re-index works with. Raises SettingsError, UnknownModel, UsageError; nothing is sent."""
    from rag.chunking.registry import CHUNKERS
    from rag.chunking.tokens import load_tokenizer
    from rag.embedding.cache import VectorCache
    from rag.pipeline import Parts
    from rag.providers import remembered
    from rag.providers.models import MODELS
    from rag.providers.secrets import read_key
    from rag.retrieval import lexical

    spec = corpus_spec(settings)
    asked = embedding_settings(settings)
    identity = embedding_model(asked, None, world).identity  # an unknown model is a better message than its tokenizer
    known = MODELS.get(asked.model) if not identity.base_url else None
    tokenizer = load_tokenizer(_tokenizer_of(settings.embedding.tokenizer, asked, known), asked.model)
    allowed = remembered.allowed(settings.store, asked)
    model = embedding_model(asked, tokenizer, world, allowed)
    chunking = settings.chunking
    if chunking.max_tokens > model.limits.tokens_per_text:
        what = f"chunking.max_tokens = {chunking.max_tokens} is over the {model.limits.tokens_per_text} that {asked.model} takes"
        raise UsageError.at("chunking.max_tokens", what, f"set it to {model.limits.tokens_per_text} or less")
    chunker = CHUNKERS[chunking.strategy](
        tokenizer,
        max_tokens=chunking.max_tokens,
        overlap_tokens=chunking.overlap_tokens,
        embed_heading_path=chunking.embed_heading_path,
    )
    dimensions = asked.dimensions or (known.dimensions if known else None)

    VectorCache(settings.store, model.identity, world.clock)  # a store of a newer version is refused before any work
    return Parts(
        store=settings.store,
        name=settings.corpus.name,
        spec=spec,
        tokenizer=tokenizer,
        chunker=chunker,
        model=model,
        dimensions=dimensions,
        terms=terms(settings, model, allowed),
        concurrency=settings.embedding.concurrency if model.identity.provider != "local" else 1,
        index_kind=settings.index.kind,
        find_key=lambda: read_key(asked, world.environment),
        lexical=lexical.parameters(),
        build_lexical=lexical.build_in_child,
        max_failed_share=settings.corpus.max_failed_share,
        max_removed_share=settings.index.max_removed_share,
        clock=world.clock,
        keep_limits=lambda: remembered.remember(settings.store, asked, told_by(model), world.clock.utc()),
    )


def told_by(model: EmbeddingModel) -> Allowed:
    """What a model's server has told of its account; nothing of a model that has none."""
    from rag.providers.openai_api import OpenAIEmbedding

    return model.told if isinstance(model, OpenAIEmbedding) else UNTOLD


def _tokenizer_of(given: str, asked: ModelSettings, known: Model | None) -> str:
    """A known model's texts are counted by its own tokenizer, or, where every token is bytes, by their bytes."""
    if known is None:
        return given
    if given in ("auto", known.tokenizer):
        return known.tokenizer
    if given != "bytes" or asked.provider != "openai":
        what = f"embedding.tokenizer = {given!r} is not the tokenizer of {asked.model}: its texts would be miscounted"
        raise SettingsError.at("embedding.tokenizer", what, 'write "auto", which takes its own')
    return given


def reindex(settings: Settings, options: Options, progress: Progress, world: World | None = None) -> Reindex:
    """A re-index, ready to run its stages. Raises as `parts`."""
    from rag.pipeline import Reindex

    world = world or World.real()
    made = parts(settings, world)
    return Reindex(by_batch(made, settings, world) if options.batch else made, options, progress)


def by_batch(made: Parts, settings: Settings, world: World) -> Parts:
    """The same parts for texts that go by the batch, at its price and in its lines.

    Raises UsageError where the model takes none.
    """
    from rag.providers import registry

    asked = embedding_settings(settings)
    batches = registry.embedding_batches(asked, Surroundings(world.clock, world.environment))
    terms = replace(
        made.terms,
        limits=batches.limits,
        usd_per_million=batches.price,
        requests_per_minute=None,
        tokens_per_minute=None,
    )
    return replace(made, batches=batches, terms=terms)


def versions(settings: Settings, world: World | None = None) -> Versions:
    """The versions of the settings' index."""
    from rag.index.versions import Versions

    return Versions(settings.store, settings.corpus.name, (world or World.real()).clock)


def generator(settings: Settings, world: World, rarity: Callable[[str], float] | None = None) -> Generator:
    """Who writes answers; `rarity` of a stem in the index helps the one without a model.

    Raises UnknownModel, SettingsError.
    """
    from rag.generation.extractive import ExtractiveGenerator

    asked = settings.generation
    if asked.model == ExtractiveGenerator.name:
        return ExtractiveGenerator(rarity, word_vectors(world) if rarity else None)
    from rag.generation.answer import GroundedGenerator
    from rag.generation.prompt import load_prompt

    return GroundedGenerator(chat_model(asked, settings, world), load_prompt(asked.prompt), asked.max_tokens)


def chat_model(section: Generation | Judge, settings: Settings, world: World) -> ChatModel:
    """The chat model of [generation] or [judge]. Nothing is sent and no key is needed before the first question.

    Raises UnknownModel, SettingsError.
    """
    from rag.providers import registry

    try:
        return registry.chat_model(_asked(section, settings), Surroundings(world.clock, world.environment))
    except UnknownModel as error:
        if isinstance(section, Judge):
            named = [replace(each, where=f"judge.model = {section.model!r}") for each in error.problems]
            raise UnknownModel(error.message, named) from error
        raise


def refuse_unready(section: Generation | Judge, settings: Settings, world: World) -> None:
    """Raise what the first question would: KeyMissing, UnknownModel, SettingsError. Nothing is sent."""
    from rag.generation.extractive import ExtractiveGenerator
    from rag.providers.secrets import read_key

    if section.model != ExtractiveGenerator.name or isinstance(section, Judge):
        chat_model(section, settings, world)
        read_key(_asked(section, settings), world.environment)


def chat_address(section: Generation | Judge) -> str:
    """The address that a chat model is asked at, as it is compared; empty for the provider's own. Raises SettingsError."""
    from rag.providers.address import other_server

    return other_server((section.model or "").partition("/")[0], section.base_url)


def word_vectors(world: World) -> Callable[[Sequence[str]], Awaitable[Floats]] | None:
    """Vectors of single words by `local/wordllama`, whatever embedded the index; None where it is not installed."""
    try:
        model = embedding_model(ModelSettings("local/wordllama"), None, world)
    except UnknownModel:
        return None

    async def embed(words: Sequence[str]) -> Floats:
        return (await model.embed(words, "query")).vectors

    return embed


def query_model(identity: EmbeddingIdentity, settings: Settings, world: World) -> EmbeddingModel:
    """The model that a version was made with, never the one of the settings. Raises UnknownModel where it is not here.

    Only what is no part of the identity (the key's variable, limits) is taken from the settings.
    """
    from rag.providers.address import other_server

    asked = embedding_settings(settings)
    # a key is for one server: that of the settings may be another by now
    same = asked.model == identity.name and other_server(identity.provider, asked.base_url) == identity.base_url
    asked = replace(
        asked,
        model=identity.name,
        base_url=asked.base_url if same else identity.base_url or None,  # the settings' may hold a user and password
        api_key_env=asked.api_key_env if same else None,
        dimensions=identity.dimensions,
    )
    model = embedding_model(asked, None, world)
    if model.identity != identity:
        what = f"the version was embedded with {identity.name} of revision {identity.revision[:12] or '?'}, here is {model.identity.revision[:12] or 'another'}"
        remedy = "install the release of the model that it was made with, or run `ragline index` to embed it anew"
        raise UnknownModel.at("embedding.model", what, remedy)
    return model


def set_aside(settings: Settings, opened: OpenVersion) -> str:
    """What flags ask for and the version was not made with: it is read as it was made. Empty where they agree."""
    from rag.providers.address import other_server

    manifest = opened.manifest
    identity = manifest.embedding
    made_with = {
        "embedding.model": identity.name,
        "embedding.base_url": identity.base_url,
        "embedding.dimensions": identity.dimensions,
        "index.kind": manifest.kind,
        **{f"chunking.{key}": manifest.chunker.get(key) for key in Chunking.model_fields},
    }
    ignored = []
    for place, asked, origin in settings.rows():
        if place not in made_with or not origin.startswith("--set ") or asked == "auto":
            continue
        compared = other_server(identity.provider, asked) if place == "embedding.base_url" else asked
        if compared != made_with[place]:
            ignored.append(f"{place} = {made_with[place] or 'none'}")
    if not ignored:
        return ""
    name = f"version {opened.number}" if opened.number else "the experiment"
    return f"{name} was made with {', '.join(ignored)}, and is read so: --set changes what `ragline index` makes"


def made_elsewhere(settings: Settings, opened: OpenVersion) -> Problem | None:
    """Where a version is asked by another model or server than the settings name, which explains a failure."""
    from rag.providers.address import other_server

    made, asked = opened.manifest.embedding, settings.embedding
    own = "its own service"
    there, here = made.base_url or own, other_server(made.provider, asked.base_url) or own
    if (made.name, there) == (asked.model, here):
        return None
    key = ", where the key of the settings is not sent" if there != here else ""
    what = f"it was made with {made.name} at {there}{key}; the settings say {asked.model} at {here}"
    name = f"version {opened.number}" if opened.number else "the experiment"
    return Problem(
        name, what, "go back to those settings to ask it, or run `ragline index`, which embeds all texts anew"
    )


def experiments(settings: Settings) -> Experiments:
    """The experiments of the settings' index."""
    from rag.index.experiments import Experiments

    return Experiments(settings.store, settings.corpus.name)


def _opened(settings: Settings, version: int | str | None, world: World) -> OpenVersion:
    if isinstance(version, str):
        return experiments(settings).open(version)
    return versions(settings, world).open(version)


class Desk:
    """A version that is held open, to ask questions of. Close it, or use it in a `with` block.

    The version answers until `close`, whatever is published meanwhile. Settings give only query-time choices: mode, k,
    weights, generator and prompt.
    """

    def __init__(
        self,
        settings: Settings,
        version: int | str | None = None,
        world: World | None = None,
        command: str = "rag.Desk",
    ) -> None:
        """A version by its number, an experiment by its name; `command` stands in the ledger where something is paid.

        Raises NotFound, Damaged, FormatTooNew, UnknownModel, SettingsError.
        """
        self.settings = settings
        self.notes: list[str] = []
        """What somebody should know who asks, and pays for it."""
        self._world = world or World.real()
        self._command = command
        self._accounts: list[Account] = []
        self._opened: OpenVersion = _opened(settings, version, self._world)
        if aside := set_aside(settings, self._opened):
            self.notes.append(aside)
        try:
            self._model: EmbeddingModel | None = None
            self._retriever = self._make_retriever()
            self._generator = generator(settings, self._world, self._lexical.rarity)
            self._book_answers()
        except BaseException:
            self._opened.close()
            raise

    @property
    def version(self) -> int:
        return self._opened.number

    @property
    def opened(self) -> OpenVersion:
        """The version's manifest, tables and index."""
        return self._opened

    @property
    def generator(self) -> Generator:
        """Who writes the answers. It is closed with the desk."""
        return self._generator

    @property
    def clock(self) -> Clock:
        return self._world.clock

    def close(self) -> None:
        """Let go of the version and of every connection, and note in the ledger what was paid."""
        from rag.sync import close_sync

        self._settle("done")
        close_sync(self._model)
        close_sync(self._generator)
        self._opened.close()

    def _account(self, model: str) -> Account:
        """What a model is paid here, for the ledger; a store that cannot be written does no harm."""
        from rag.embedding.account import Account

        made = Account(self.settings.store, self._world.clock, self._command, model, strict=False)
        self._accounts.append(made)
        return made

    def _book_answers(self) -> None:
        from rag.embedding.booked import BookedChat
        from rag.generation.answer import GroundedGenerator

        if isinstance(self._generator, GroundedGenerator):
            self._generator.chat = BookedChat(self._generator.chat, self._account(self._generator.name))

    def _settle(self, outcome: str) -> None:
        """A line in the ledger for each model that was paid."""
        for account in self._accounts:
            account.close(outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._settle("failed" if kind else "done")
        self.close()

    def _make_retriever(self) -> Retriever:
        from rag.providers.models import MODELS
        from rag.retrieval.fusion import Weights
        from rag.retrieval.lexical import lexical_index
        from rag.retrieval.retrievers import retriever

        opened, asked = self._opened, self.settings.retrieval
        self._lexical = lexical_index(opened.path)
        given = asked.weights
        known = MODELS.get(opened.manifest.embedding.name)
        weights = Weights(given.dense, given.lexical) if given else Weights(known.weight if known else 1.0)
        return retriever(asked.mode, opened, self.embed, self._lexical, weights, asked.k)

    async def embed(self, questions: Sequence[str]) -> Floats:
        """Query vectors, float32 [n, d], through the cache when they cost something."""
        from rag.embedding.cache import VectorCache
        from rag.embedding.queries import query_vectors

        if self._model is None:
            self._model = self._booked(query_model(self._opened.manifest.embedding, self.settings, self._world))
        if self._model.identity.provider == "local":
            return (await self._model.embed(questions, "query")).vectors
        cache = VectorCache(self.settings.store, self._model.identity, self._world.clock)
        try:
            return await query_vectors(self._model, cache, questions, self.notes)
        except (KeyMissing, UnknownModel, ProviderFailed) as error:
            if problem := made_elsewhere(self.settings, self._opened):
                raise type(error)(error.message, [*error.problems, problem]) from error
            raise

    def _booked(self, model: EmbeddingModel) -> EmbeddingModel:
        """The model with its answers in the ledger; one of this machine costs nothing."""
        from rag.embedding.booked import BookedEmbedding

        if model.identity.provider == "local":
            return model
        name = model.identity.name
        price = price_of(self.settings, model.identity)
        return BookedEmbedding(model, self._account(name), lambda tokens: price.usd(tokens) if price else None)

    def where(self, filters: Mapping[str, Sequence[str]] | None) -> Any:
        """The rows that a metadata filter leaves, or None for all. Raises UsageError for unknown keys."""
        return self._opened.where(filters) if filters else None

    async def aretrieve(
        self, question: str, k: int | None = None, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[Passage]:
        """The best k passages, best first, equal texts folded into one."""
        return (await self.aretrieve_many([question], k, where))[0]

    async def aretrieve_many(
        self, questions: Sequence[str], k: int | None = None, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[list[Passage]]:
        """The best k passages of each question, all vectors searched in one batch."""
        from rag.retrieval.passages import passages_many

        wanted = self.settings.retrieval.k if k is None else k
        if wanted < 1:
            raise UsageError.at("k", f"k is {wanted}", "ask for one passage or more")
        for question in questions:
            if not question.strip():
                raise UsageError.at("QUESTION", "the question is empty", "ask something")
        rows = self.where(where)
        limit = self._opened.rows if rows is None else len(rows)
        # duplicates are folded into one passage, so a few more rows are fetched, and more where that was not enough
        depth = min(limit, wanted + 16)
        while True:
            ranked = await self._retriever.retrieve_many(questions, depth, rows)
            found = passages_many(ranked, self._opened, wanted)
            short = any(len(part) < wanted and len(hits) == depth for part, hits in zip(found, ranked, strict=True))
            if not short or depth >= limit:
                return found
            depth = min(limit, depth * 4)

    async def astream(
        self, question: str, k: int | None = None, where: Mapping[str, Sequence[str]] | None = None
    ) -> AsyncIterator[str | Answer]:
        """Pieces of the answer as they come, then the whole Answer."""
        found = await self.aretrieve(question, k, where)
        async for piece in self._generator.answer(question, found):
            if isinstance(piece, str):
                yield piece
            else:
                yield replace(piece, version=self.version)

    async def aask(
        self, question: str, k: int | None = None, where: Mapping[str, Sequence[str]] | None = None
    ) -> Answer:
        """A grounded answer with its citations and passages."""
        answer: Answer | None = None
        async for piece in self.astream(question, k, where):
            if not isinstance(piece, str):
                answer = piece
        assert answer is not None
        return answer

    async def aask_many(self, questions: Iterable[str], k: int | None = None) -> list[Answer]:
        """Many questions at once, at most generation.concurrency under way; answers in the order of the questions."""
        gate = asyncio.Semaphore(self.settings.generation.concurrency)

        async def one(question: str) -> Answer:
            async with gate:
                return await self.aask(question, k)

        return list(await asyncio.gather(*(one(question) for question in questions)))

    def ask(self, question: str, k: int | None = None, where: Mapping[str, Sequence[str]] | None = None) -> Answer:
        """Ask as `aask` does, for callers without a loop, and for notebooks."""
        from rag.sync import run_sync

        return run_sync(self.aask(question, k, where))

    def ask_many(self, questions: Iterable[str], k: int | None = None) -> list[Answer]:
        """As `aask_many`, for callers without a loop, and for notebooks."""
        from rag.sync import run_sync

        return run_sync(self.aask_many(questions, k))

    def retrieve(
        self, question: str, k: int | None = None, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[Passage]:
        """As `aretrieve`, for callers without a loop, and for notebooks."""
        from rag.sync import run_sync

        return run_sync(self.aretrieve(question, k, where))


def open_desk(config: str | Path | None = None, version: int | None = None, **sections: Mapping[str, Any]) -> Desk:
    """Open the published version (or another) of the index that a ragline.toml names.

    `sections` override settings: `open_desk("ragline.toml", retrieval={"k": 8})`.
    Raises SettingsError, NotFound, Damaged.
    """
    sets = [f"{section}.{key}={_toml(value)}" for section, values in sections.items() for key, value in values.items()]
    settings = load([Path(config)] if config else [], os.environ, sets)
    return Desk(settings, version)


def _toml(value: Any) -> str:
    import json

    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def price_of(settings: Settings, model: EmbeddingIdentity) -> Price | None:
    """The price of an embedding model where it is, under these settings."""
    from rag.providers.prices import price

    return price(model.name, model.base_url or None, prices(settings))


def refuse_place_of_plan(settings: Settings, path: Path) -> None:
    """Raise UsageError where a plan cannot be written, or would change or destroy something. Raises CorpusMissing."""
    from rag.corpus.sources import is_inside, takes
    from rag.index.plan_file import refuse_place

    refuse_place(path)
    if is_inside(os.path.realpath(path), os.path.realpath(settings.store)):
        raise UsageError.at(
            "--out", f"{path} lies in the store, where only ragline's own files are", "name another place"
        )
    if takes(corpus_spec(settings), path):
        what = f"{path} lies in the corpus: the plan itself would change it"
        raise UsageError.at("--out", what, "name a place outside, such as the folder of ragline.toml")


def describe_corpus(settings: Settings) -> str:
    """What stands where the settings say, in a sentence. Raises CorpusMissing, UsageError."""
    from rag.corpus.sources import listed, nothing_found

    spec = corpus_spec(settings)
    found = listed(spec)
    if not found.paths:
        raise nothing_found(spec, found.excluded)
    return f"{counted(len(found.paths), 'file')} to read"


def describe_embedding(settings: Settings, world: World) -> str:
    """Model, price and key of the settings, in a sentence. Raises UnknownModel, KeyMissing; sends nothing."""
    from rag.providers.secrets import key_variable

    made = parts(settings, world)
    if made.terms.free:
        return f"{made.model.identity.name} runs on this machine and costs nothing"
    made.find_key()
    key = "a key is there" if key_variable(embedding_settings(settings)) else "no key is sent"
    known = made.terms.usd_per_million
    price = "no price is known, so max_tokens is needed" if known is None else f"${known} a million tokens"
    return f"{made.model.identity.name}: {key}, {price}{_caps(settings, world)}"


def _caps(settings: Settings, world: World) -> str:
    """What may be spent, in words behind others."""
    from rag.counted import dollars
    from rag.embedding import ledger

    asked, told = settings.embedding, ""
    if asked.max_usd is not None:
        told += f", at most {dollars(asked.max_usd)} a run"
    if asked.max_tokens is not None:
        told += f", at most {counted(asked.max_tokens, 'token')} a run"
    if asked.max_usd_per_month is not None:
        month = ledger.month(settings.store, world.clock.utc())
        left_out = f" ({counted(month.unpriced, 'run')} of unknown price not counted)" if month.unpriced else ""
        told += f", at most {dollars(asked.max_usd_per_month)} a month, {dollars(month.usd)} of it spent{left_out}"
    return told
