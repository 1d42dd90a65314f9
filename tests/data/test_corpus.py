from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from rag.types import Document
from tests.data.corpus import DATA, shipped

# the later of each planted pair; data/README.md names both
NEAR_DUPLICATES = {
    "engineering/inspection-sheet-railcar-25-2026-03.md": "engineering/inspection-sheet-railcar-22-2026-03.md",
    "mountain/b-103-avalanche-bulletin-2026-02-04.md": "mountain/b-102-avalanche-bulletin-2026-02-03.md",
    "operations/n-2026-23-loop-closure-marl-pass.md": "operations/n-2026-17-loop-closure-upper-tessen.md",
    "operations/so-22-request-stops.md": "operations/so-22-request-stops-2023.md",
    "people/press-release-2026-09-04-record-summer-corrected.md": "people/press-release-2026-09-02-record-summer.md",
}


def sentences(document: Document) -> Iterator[str]:
    """Sentences of four words and more, masked; headings, table rows and code are none."""
    text = re.sub(r"(?ms)^```.*?^```", "", document.text[document.body_start :])
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|#>]|\d+[.)])\s?)", text):
        joined = " ".join(block.split())
        if joined.startswith(("#", "|")):
            continue
        for sentence in re.split(r"(?<=[.!?])[\"”)*]*\s+", joined):
            if len(sentence.split()) >= 4:
                yield re.sub(r"\b[A-Z]\w*", "Name", re.sub(r"\d[\d.,:]*", "0", sentence))


def test_it_holds_enough_in_every_format_and_nothing_is_left_out() -> None:
    documents, excluded = shipped()
    assert excluded == []
    assert len(documents) >= 80
    assert sum(len(document.text[document.body_start :].split()) for document in documents.values()) >= 60_000
    readers = Counter(document.reader.partition("/")[0] for document in documents.values())
    assert set(readers) == {"markdown", "html", "jsonl", "plain", "pdf", "docx"}


def test_sentences_are_no_templates_outside_the_planted_near_duplicates() -> None:
    documents, _ = shipped()
    found = Counter(
        sentence for name, each in documents.items() if name not in NEAR_DUPLICATES for sentence in sentences(each)
    )
    assert found.total() > 3_000
    assert len(found) >= 0.95 * found.total()


def test_a_planted_near_duplicate_shares_most_sentences_with_its_twin_and_no_other_pair_does() -> None:
    documents, _ = shipped()
    of = {name: set(sentences(each)) for name, each in documents.items()}
    names = list(of)
    close = {
        frozenset((one, other))
        for place, one in enumerate(names)
        for other in names[place + 1 :]
        if len(of[one] & of[other]) > 0.4 * min(len(of[one]), len(of[other]), 10_000) > 1
    }
    assert close == {frozenset(pair) for pair in NEAR_DUPLICATES.items()}


def test_the_readme_names_every_near_duplicate_and_every_superseded_document() -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    documents, _ = shipped()
    superseded = {name for name, each in documents.items() if each.metadata.get("status") == "superseded"}
    named = superseded | set(NEAR_DUPLICATES) | set(NEAR_DUPLICATES.values())
    assert [name for name in sorted(named) if f"`{name.rpartition('/')[2]}`" not in readme] == []


def test_headings_tables_and_lists_of_the_word_document_arrive_as_markdown() -> None:
    text = shipped()[0]["mountain/winter-evacuation-exercise-2026.docx"].text
    assert text.startswith("# Winter evacuation of the Summit: exercise report 2026\n\n## Purpose and frame\n")
    assert "\n### Waiting for the line\n" in text
    assert "\n| Alarm raised | 08:00 | 08:04 | siren key not on its hook |\n" in text
    assert "\n- Each floor of the hotel receives a tally board" in text


def test_the_pdf_has_a_clean_text_layer() -> None:
    text = shipped()[0]["engineering/kessel-bridge-principal-inspection-2025.pdf"].text
    assert "\n4.3 Bearings and thrust rods\n" in text
    assert text.isascii()
    assert re.search(r"[a-z]-\n", text) is None


def test_no_page_furniture_comes_through_from_html() -> None:
    pages = [each.text for each in shipped()[0].values() if each.reader.startswith("html/")]
    assert len(pages) >= 10
    assert not [text[:80] for text in pages if re.search(r"<\w+|&\w+;|cookie|function\s*\(|Imprint", text)]
