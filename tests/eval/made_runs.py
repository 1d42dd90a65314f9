"""Small runs with everything that may happen in one: every arm, repeats, errors, abstentions, folded chunks, odd text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from eval.about import DatasetInfo, IndexInfo, ModelInfo, PromptInfo, RunInfo, settings_json
from eval.measures.names import Measure
from eval.results import save
from eval.types import Arm, Failure, Gold, Observed, Question, Score, Scored, Status
from rag.settings import Settings
from rag.types import Answer, Citation, Passage, Place, Span, Usage

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
ID = "20261122T080000Z-3f9a1c"
LINE = "The summit line opened in 1911.\n\nIt was electrified in 1936."
"""The document line.md."""
HUT = "Ünder the hut \U0001f3d4 a bell rings.\x00 End."
"""The document hut.md, with a character beyond the first 65,536 and a NUL."""
MEASURES = (Measure("R", 5), Measure("nDCG", 10))


def gold(text: str, doc_id: str, quote: str) -> Gold:
    start = text.index(quote)
    return Gold(doc_id, start, start + len(quote), quote)


OPENED = Question(
    "q-opened",
    "When did the summit line open?",
    ("1911", "in 1911"),
    answerable=True,
    gold=(gold(LINE, "line.md", "The summit line opened in 1911."),),
    tags={"type": "fact", "hops": "1"},
)
BOTH = Question(
    "q-both",
    "When did it open, and when did it go electric?",
    ("1911 and 1936",),
    answerable=True,
    gold=(gold(LINE, "line.md", "opened in 1911.\n\nIt was electrified in 1936."),),
    tags={"type": "fact", "hops": "2"},
)
BELL = Question(
    "q-bell",
    "What rings \ud83c under the hut?",  # half of a pair, as JSON lets anybody write it
    ("a bell",),
    answerable=True,
    gold=(gold(HUT, "hut.md", "a bell rings."),),
    tags={"type": "odd", "all": "yes"},
)
PRICE = Question("q-price", "What did it cost?", (), answerable=False, gold=(), tags={"type": "trap"}, about="line.md")
GRADED = Question(
    "q-graded", "railways", (), answerable=True, gold=(), tags={}, grades={"line.md": 2, "hut.md": 0, "gone.md": 1}
)
QUESTIONS = (OPENED, BOTH, BELL, PRICE, GRADED)


def passage(rank: int, doc_id: str, text: str, start: int, end: int, also_in: tuple[Span, ...] = ()) -> Passage:
    return Passage(
        rank,
        1.0 / rank,
        doc_id,
        "Title",
        f"corpus/{doc_id}",
        start,
        end,
        ("The line", "a > b") if doc_id == "line.md" else (),
        text[start:end],
        also_in,
        Place(rank, 0.5) if rank % 2 else None,
        Place(rank, -1.5) if rank > 1 else None,
        end - start,
    )


FIRST = passage(1, "line.md", LINE, 0, 31)
SECOND = passage(2, "line.md", LINE, 33, len(LINE))
THIRD = passage(3, "hut.md", HUT, 0, len(HUT), (Span("bell.md", 5, 5 + len(HUT)),))
RANKING = (FIRST, SECOND, THIRD)


def answered(question: Question, text: str, *, abstained: bool = False, cites: tuple[Passage, ...] = ()) -> Answer:
    citations = tuple(Citation(each.rank, each.doc_id, each.start, each.start + 3, each.text[:3]) for each in cites)
    return Answer(question.text, text, abstained, citations, RANKING, "smol-1", "answer.v1", Usage(1, 120, 7, 0.002))


def observed(
    question: Question,
    answer: Answer | None,
    arm: Arm = "retrieved",
    repeat: int = 0,
    ranking: tuple[Passage, ...] = RANKING,
    given: int = 2,
    seconds: float = 0.25,
) -> Observed:
    return Observed(
        question=question,
        arm=arm,
        repeat=repeat,
        ranking=() if arm == "closed_book" else ranking,
        prompt_passages=0 if arm == "closed_book" else given,
        answer=answer,
        failure=None if answer else Failure("ProviderFailed", "503 from http://me:pass@host/v1?key=abc: sk-abcdef123"),
        prompt=None if answer is None else f"system\nBe brief.\n\nuser\n{question.text}",
        prompt_sha256=None if answer is None else "ab" * 32,
        cached=seconds == 0.0,
        usage=answer.usage if answer and seconds else Usage(),
        usd_saved=0.0 if seconds else None,
        retrieve_seconds=seconds,
        generate_seconds=None if answer is None else 1.5,
        asked_at=NOW + timedelta(seconds=seconds),
    )


def everything(seconds: float = 0.25) -> tuple[Observed, ...]:
    """Every question in every arm and two repeats, one of each kind of outcome among them."""
    found: list[Observed] = []
    answers: dict[str, Answer | None] = {
        "q-opened": answered(OPENED, "It opened in 1911.", cites=(FIRST,)),
        "q-both": answered(BOTH, "In 1936.", cites=(SECOND,)),
        "q-bell": answered(BELL, "The passages do not answer this.", abstained=True),
        "q-price": answered(PRICE, "It cost \ud800 1911 crowns."),
        "q-graded": None,
    }
    arms: tuple[Arm, ...] = ("retrieved", "oracle", "closed_book")
    for question in QUESTIONS:
        for arm in arms:
            found += [
                observed(question, answers[question.question_id], arm, repeat, seconds=seconds) for repeat in (0, 1)
            ]
    return tuple(found)


def scored(rows: Sequence[Observed] = (), measures: Sequence[Measure] = MEASURES) -> Scored:
    """Values that differ from row to row; errors for failures, nothing applicable where nothing is judged."""
    rows = rows or everything()

    def score(at: int, which: int) -> Score:
        if rows[at].failure:
            return Score(None, Status.ERROR, "ProviderFailed", "ragline")
        if not rows[at].question.judgements:
            return Score(None, Status.NOT_APPLICABLE, "nothing is judged", "ragline")
        if which and rows[at].repeat:
            return Score(None, Status.UNSCORED, "no usable verdict", "judge-1")
        return Score(((at * 7 + which) % 11) / 10, Status.SCORED, None, "judge-1" if which else "ragline")

    return Scored(
        observed=tuple(rows),
        measures=tuple(measures),
        scores=tuple(tuple(score(at, which) for which in range(len(measures))) for at in range(len(rows))),
        judge_seconds=tuple(0.5 if each.answer else None for each in rows),
        judge_usage=Usage(3, 300, 30, 0.01),
        judge_usd_saved=0.0,
    )


def info(run_id: str = ID, name: str = "") -> RunInfo:
    settings = Settings.model_validate(
        {
            "generation": {"model": "openai/smol", "base_url": "http://me:pass@host/v1?key=abc"},
            "prices": {"openai/smol": {"input": 1.0}},
        }
    )
    return RunInfo(
        run_id=run_id,
        name=name,
        status="complete",
        created_at=NOW,
        finished_at=NOW + timedelta(seconds=9),
        ragline_version="0.1.0",
        command=("ragline", "eval", "--set", "generation.base_url=http://me:pass@host/v1?key=abc"),
        commit=None,
        dirty=None,
        index=IndexInfo("main", 7, "cd" * 32, published=True, documents=3, chunks=3, embedding_model="m", dimensions=2),
        dataset=DatasetInfo("questions.jsonl", "canonical", "ef" * 32, 5, 4, None, {"type": ["fact", "odd"]}),
        settings=settings_json(settings),
        arms=("retrieved", "oracle", "closed_book"),
        repeats=2,
        search_depth=100,
        seed=0,
        models=(ModelInfo("generation", "openai/smol", "http://me:pass@host/v1"), ModelInfo("judge", "judge", None)),
        prompts=(PromptInfo("generation", "answer.v1.md", "1", "ab" * 32),),
        priced_on="settings",
        unpriced=(),
        agreement=(),
    )


def saved(store: Path, number: int = 0, name: str = "", rows: Sequence[Observed] = ()) -> Path:
    """A run in the store; a higher number began later."""
    given = replace(info(name=name), run_id=f"20261122T0800{number:02d}Z-3f9a1c")
    return save(store, scored(rows), given, lambda folder: f"<p>{folder.name[:3]}</p>")
