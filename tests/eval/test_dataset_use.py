"""What is done with a set: chosen from, held against an index, converted, described."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.datasets.contexts import nearest
from eval.datasets.convert import write
from eval.datasets.corpus import corpus_records, write_corpus
from eval.datasets.describe import describe
from eval.datasets.read import read
from eval.datasets.resolve import GONE, resolve
from eval.datasets.select import sample, where
from eval.types import Dataset, Gold, Question
from rag.errors import UsageError

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "questions" / "vallorne.jsonl"


def asked(name: str, *gold: Gold, **more: object) -> Question:
    made = Question(name, f"{name}?", ("a",), answerable=True, gold=gold, line=7)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def dataset(*questions: Question, corpus: tuple[Path, ...] = ()) -> Dataset:
    return Dataset(Path("set.jsonl"), "canonical", "0", questions, corpus=corpus)


def holding(**texts: str) -> object:
    def look(doc_ids: Collection[str]) -> Mapping[str, str]:
        return {name: text for name, text in texts.items() if name in doc_ids}

    return look


def test_a_sample_keeps_the_order_and_depends_on_the_seed() -> None:
    questions = [asked(f"q-{n}") for n in range(50)]
    drawn = sample(questions, 10)
    assert drawn == sample(questions, 10)
    assert drawn == sorted(drawn, key=questions.index)
    assert len(drawn) == 10
    assert drawn != sample(questions, 10, seed=1)
    assert sample(questions, 99) == questions


def test_where_is_and_over_tags_and_or_within_one() -> None:
    questions = [asked(f"{kind}{hops}", tags={"kind": kind, "hops": hops}) for kind in "abc" for hops in "12"]
    assert [each.question_id for each in where(questions, {"kind": ["a", "c"], "hops": ["2"]})] == ["a2", "c2"]
    with pytest.raises(UsageError) as caught:
        where(questions, {"kidn": ["a"], "hops": ["2", "3"]})
    assert [(each.where, each.remedy) for each in caught.value.problems] == [
        ("--where kidn", "there is kind"),
        ("--where hops=3", "there is 1, 2"),
    ]
    with pytest.raises(UsageError, match="no question has kind=a and hops=2"):
        where(questions[:1] + questions[3:], {"kind": ["a"], "hops": ["2"]})


def test_gold_that_moved_is_found_again_nearest_to_its_old_place() -> None:
    texts = holding(d="The pass. New words. The pass is\nclosed by noon. The pass.")
    found = resolve(
        dataset(
            asked("same", Gold("d", 4, 8, "pass")),
            asked("moved", Gold("d", 26, 33, "is\nclos")),
            asked("spaces", Gold("d", 3, 22, "pass is closed by noon")),
            asked("near", Gold("d", 48, 56, "The pass")),
        ),
        texts,  # type: ignore[arg-type]
    )
    assert not found.failures
    assert [each.gold for each in found.questions] == [
        (Gold("d", 4, 8, "pass"),),
        (Gold("d", 30, 37, "is\nclos"),),
        (Gold("d", 25, 47, "pass is\nclosed by noon"),),
        (Gold("d", 49, 57, "The pass"),),
    ]
    assert found.notes == ("questions whose quotes moved in their documents: 3; found again",)


def test_gold_that_is_gone_is_a_failure_with_its_line_and_the_others_stay() -> None:
    good = asked("good", Gold("d", 0, 3, "one"))
    gone = asked("gone", Gold("d", 0, 3, "one"), Gold("d", 4, 9, "three"))
    found = resolve(dataset(good, gone), holding(d="one two"))  # type: ignore[arg-type]
    assert found.questions == (good, gone)
    assert {name: failure.type for name, failure in found.failures.items()} == {"gone": GONE}
    assert found.failures["gone"].message == "set.jsonl:7 (gone): 'd' does not hold 'three' any more"


def test_gold_documents_that_the_index_does_not_hold_are_refused_all_at_once() -> None:
    questions = dataset(
        asked("one", Gold("gone", 0, 1, "x")),
        asked("two", grades={"lost": 2, "d": 1, "judged-not-relevant": 0}),
        asked("three", answerable=False, about="anywhere"),
    )
    with pytest.raises(UsageError, match="2 gold documents are not in the index") as caught:
        resolve(questions, holding(d="text"))  # type: ignore[arg-type]
    assert [(each.where, each.what) for each in caught.value.problems] == [
        ("set.jsonl:7 (one)", "its document 'gone' is not in the index"),
        ("set.jsonl:7 (two)", "its document 'lost' is not in the index"),
    ]


def test_a_judged_document_without_text_stays_judged(datasets: Path) -> None:
    cranfield = read(datasets / "cranfield", "graded")
    held = {row["id"]: row["text"] for row in corpus_records(cranfield) if row["text"]}
    found = resolve(cranfield, lambda ids: {name: held[name] for name in ids if name in held})
    assert found.questions == cranfield.questions
    assert found.notes == ("judged documents without text, which no index holds: 1, such as '995'",)
    del held["184"]
    with pytest.raises(UsageError, match="1 gold documents") as caught:
        resolve(cranfield, lambda ids: {name: held[name] for name in ids if name in held})
    assert "--corpus-from-dataset" in caught.value.problems[0].remedy


@given(st.text("ab ", max_size=30), st.text("ab ", min_size=1, max_size=3), st.integers(-2, 32))
def test_nearest_is_the_nearest_of_all_places(text: str, quote: str, start: int) -> None:
    places = [at for at in range(len(text)) if text.startswith(quote, at)]
    at = nearest(text, quote, start)
    assert (at is None) == (not places)
    if at is not None:
        assert at in places
        assert abs(at - start) == min(abs(each - start) for each in places)


def test_the_shipped_questions_convert_to_themselves(tmp_path: Path) -> None:
    write(read(SHIPPED), tmp_path / "q.jsonl")
    assert (tmp_path / "q.jsonl").read_bytes() == SHIPPED.read_bytes()


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6).filter(str.strip)
GOLD = st.builds(
    lambda doc_id, start, quote: Gold(doc_id, start, start + len(quote), quote), IDS, st.integers(0, 99), WORDS
)


@st.composite
def sets(draw: st.DrawFn) -> tuple[Question, ...]:
    questions = []
    for name in draw(st.lists(IDS, min_size=1, max_size=4, unique=True)):
        answerable = draw(st.booleans())
        few = st.lists(WORDS, max_size=2 if answerable else 0).map(tuple)
        questions.append(
            Question(
                name,
                draw(WORDS),
                draw(few),
                answerable,
                draw(st.lists(GOLD, max_size=2 if answerable else 0).map(tuple)),
                tags=draw(st.dictionaries(WORDS, WORDS, max_size=2)),
                about=draw(st.none() | IDS),
                grades=draw(st.dictionaries(IDS, st.integers(-2, 3), max_size=2)),
                contexts=draw(few),
            )
        )
    return tuple(questions)


@settings(max_examples=25)
@given(questions=sets())
def test_what_is_written_reads_back_equal(
    questions: tuple[Question, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("set")
    for name in ("q.jsonl", "q.jsonl.gz", "q.parquet"):
        write(dataset(*questions), folder / name)
        again = read(folder / name)
        assert again.format == "canonical"
        assert tuple(dataclasses.replace(each, line=0) for each in again.questions) == questions


@pytest.mark.parametrize(
    ("name", "qrels"),
    [("squad2-dev-slice", None), ("cranfield", "binary"), ("clapnq-dev-a", None), ("pubmedqa-dev500", None)],
)
def test_every_real_set_survives_conversion(name: str, qrels: str | None, datasets: Path, tmp_path: Path) -> None:
    first = read(datasets / name, qrels)
    write(first, tmp_path / "q.parquet")
    bare = [dataclasses.replace(each, line=0) for each in first.questions]
    assert [dataclasses.replace(each, line=0) for each in read(tmp_path / "q.parquet").questions] == bare


def test_pandas_may_write_the_canonical_form(tmp_path: Path) -> None:
    import pandas as pd

    rows = [json.loads(line) for line in SHIPPED.read_text(encoding="utf-8").splitlines()]
    rows[0]["grades"] = {"d": 2}
    rows[1]["tags"] = {"type": "fact"}
    pd.DataFrame(rows).to_parquet(tmp_path / "q.parquet")
    questions = read(tmp_path / "q.parquet").questions
    assert (questions[0].grades, questions[1].grades, questions[1].tags) == ({"d": 2}, {}, {"type": "fact"})
    assert [each.gold for each in questions] == [each.gold for each in read(SHIPPED).questions]


def test_a_set_is_not_written_over_itself_nor_under_a_name_that_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(SHIPPED.read_bytes())
    with pytest.raises(UsageError, match="is what is being converted"):
        write(read(path), path)
    with pytest.raises(UsageError, match="does not say what to write"):
        write(read(path), tmp_path / "q.xlsx")
    assert [each.name for each in tmp_path.iterdir()] == ["q.jsonl"]


def test_a_set_without_a_corpus_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="brings no corpus along"):
        write_corpus(read(SHIPPED), tmp_path / "corpus.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_description_counts_and_says_what_can_be_measured() -> None:
    found = describe(read(SHIPPED))
    assert (found["format"], found["questions"], found["answerable"], found["with_gold_spans"]) == (
        "canonical",
        267,
        230,
        230,
    )
    assert sum(found["tags"]["hops"].values()) == 267
    assert all(found["measures"].values())
    bare = describe(dataset(asked("q", expected_answers=())))
    assert [name for name, allowed in bare["measures"].items() if allowed] == ["judged"]
    json.dumps(found)
