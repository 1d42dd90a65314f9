from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from rag.corpus.page import Unreadable
from rag.corpus.patterns import compiled
from rag.corpus.read import Reading
from rag.corpus.snapshot import snapshot
from rag.corpus.sources import listed, open_source
from rag.corpus.spec import CorpusSpec
from rag.errors import CorpusMissing, SettingsError
from rag.types import Document

LATER = 4 * 10**18


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {path.stem}\n\nText of {name}.\n")
    return folder


def found(spec: CorpusSpec) -> tuple[list[str], list[tuple[str, str]]]:
    taken = snapshot(spec, None, LATER)
    return taken.paths, [(row.source, row.reason) for row in taken.excluded]


def test_a_folder_gives_paths_relative_to_it_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    write(tmp_path / "docs", "b.md", "a/z.txt", "a.md", "é.md", "Z.md")
    assert found(CorpusSpec((tmp_path / "docs",)))[0] == ["Z.md", "a.md", "a/z.txt", "b.md", "é.md"]


def test_a_glob_is_relative_to_its_longest_folder_without_a_pattern(tmp_path: Path) -> None:
    write(tmp_path, "docs/a.md", "docs/b.txt", "docs/deep/c.md", "other/d.md")
    assert found(CorpusSpec((tmp_path / "docs" / "*.md",)))[0] == ["a.md"]
    assert found(CorpusSpec((tmp_path / "docs" / "**" / "*.md",)))[0] == ["a.md", "deep/c.md"]
    assert found(CorpusSpec((tmp_path / "*" / "?.md",)))[0] == ["docs/a.md", "other/d.md"]


def test_a_name_that_looks_like_a_pattern_is_taken_as_the_file_it_names(tmp_path: Path) -> None:
    write(tmp_path, "a[1].md", "a1.md")
    assert found(CorpusSpec((tmp_path / "a[1].md",)))[0] == ["a[1].md"]


def test_a_single_file_is_relative_to_its_folder_even_when_hidden(tmp_path: Path) -> None:
    write(tmp_path, "x/.notes.md", "x/other.md")
    paths, excluded = found(CorpusSpec((tmp_path / "x" / ".notes.md",)))
    assert (paths, excluded) == ([".notes.md"], [])


def test_a_file_reached_by_two_paths_counts_once(tmp_path: Path) -> None:
    write(tmp_path, "docs/a.md", "docs/sub/b.md", "docs/.hidden.md")
    spec = CorpusSpec((tmp_path / "docs", tmp_path / "docs" / "sub", tmp_path / "docs" / "a.md", tmp_path / "docs"))
    assert found(spec) == (["a.md", "sub/b.md"], [("docs/.hidden.md", "hidden")])


def test_include_and_exclude_decide_what_is_a_source_at_all(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "b.txt", "drafts/c.md", "x/drafts/d.md", "x/e.md", "film.mp4")
    assert found(CorpusSpec((tmp_path,), include=("*.md",), exclude=("drafts/**",))) == (
        ["a.md", "x/drafts/d.md", "x/e.md"],
        [],
    )
    assert found(CorpusSpec((tmp_path,), include=("*.md",), exclude=("drafts",)))[0] == ["a.md", "x/e.md"]
    assert found(CorpusSpec((tmp_path,), include=("x/*.md", "*.txt")))[0] == ["b.txt", "x/e.md"]


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**/*.md", "a.md", True),
        ("**/*.md", "x/y/a.md", True),
        ("docs/**/*.md", "docs/a.md", True),
        ("docs/**", "docs/a/b.txt", True),
        ("docs/**", "docs2/a", False),
        ("docs/*.md", "docs/x/a.md", False),
        ("a?c.md", "abc.md", True),
        ("x/a?c", "x/a/c", False),
        ("[!a]*.md", "b.md", True),
        ("[!a]*.md", "a.md", False),
        ("x/[!a]b", "x//b", False),
        ("a.md", "axmd", False),
        ("*.md", "deep/down/a.md", True),
        ("/*.md", "deep/a.md", False),
        ("a/**/**/b", "a/b", True),
    ],
)
def test_patterns_match_as_documented(pattern: str, path: str, matches: bool) -> None:
    assert compiled((pattern,)).match(path) is matches


def test_hidden_entries_are_one_row_each_and_not_entered(tmp_path: Path) -> None:
    write(tmp_path / "c", "a.md", ".git/x.md", ".git/y.md", ".draft.md", "sub/.z.md")
    assert found(CorpusSpec((tmp_path / "c",))) == (
        ["a.md"],
        [("c/.draft.md", "hidden"), ("c/.git", "hidden"), ("c/sub/.z.md", "hidden")],
    )


def test_links_are_followed_inside_the_root_only_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path, "c/a.md", "c/sub/b.md", "secret/s.md")
    corpus = tmp_path / "c"
    (corpus / "inside.md").symlink_to("a.md")
    (corpus / "folder").symlink_to("sub")
    (corpus / "out.md").symlink_to(tmp_path / "secret" / "s.md")
    (corpus / "outer").symlink_to(tmp_path / "secret")
    (corpus / "sub" / "up").symlink_to("..")
    (corpus / "self").symlink_to("self")
    (corpus / "gone.md").symlink_to("nowhere.md")
    paths, excluded = found(CorpusSpec((corpus,)))
    assert paths == ["a.md", "folder/b.md", "inside.md", "sub/b.md"]
    assert dict(excluded) == {
        "c/folder/up": "link",
        "c/gone.md": "link",
        "c/out.md": "outside the corpus",
        "c/outer": "outside the corpus",
        "c/self": "link",
        "c/sub/up": "link",
    }


def test_links_to_links_of_folders_do_not_multiply(tmp_path: Path) -> None:
    for level in range(20):
        write(tmp_path / "c", f"d{level}/x.md")
        for name in ("p", "q"):
            (tmp_path / "c" / f"d{level}" / name).symlink_to(f"../d{level + 1}")
    (tmp_path / "c" / "d20").mkdir()
    assert len(listed(CorpusSpec((tmp_path / "c",))).paths) < 500


def test_special_files_are_rows_and_never_opened(tmp_path: Path) -> None:
    write(tmp_path / "c", "a.md")
    os.mkfifo(tmp_path / "c" / "pipe.md")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "c" / "s.md"))
    assert found(CorpusSpec((tmp_path / "c",)))[1] == [("c/pipe.md", "not a file"), ("c/s.md", "not a file")]


def test_a_fifo_or_a_link_out_in_the_place_of_a_listed_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "c/a.md", "c/b.md", "c/sub/d.md", "secret/d.md")
    spec = CorpusSpec((tmp_path / "c",))
    taken = snapshot(spec, None, LATER)
    listing = listed(spec)
    (tmp_path / "c" / "a.md").unlink()
    os.mkfifo(tmp_path / "c" / "a.md")
    (tmp_path / "c" / "b.md").unlink()
    (tmp_path / "c" / "b.md").symlink_to(tmp_path / "secret" / "d.md")
    (tmp_path / "c" / "sub").rename(tmp_path / "away")
    (tmp_path / "c" / "sub").symlink_to(tmp_path / "secret")
    with pytest.raises(Unreadable, match="FIFO"):
        open_source(listing.roots[0], "a.md", int(taken.stats[0, 3]))
    reading = Reading(taken, spec)
    rows = {row.source: getattr(row, "reason", "") for row in reading}
    assert rows == {"c/a.md": "not a file", "c/b.md": "outside the corpus", "c/sub/d.md": "outside the corpus"}
    assert reading.stale


def test_unsupported_suffixes_too_large_files_and_names_that_are_no_text_are_rows(tmp_path: Path) -> None:
    write(tmp_path / "c", "a.md", "b.mp4", "noext")
    with (tmp_path / "c" / "big.txt").open("wb") as big:
        big.truncate(257 * 1024 * 1024)
    (tmp_path / "c" / os.fsdecode(b"\xff.md")).write_text("x")
    assert found(CorpusSpec((tmp_path / "c",)))[1] == [
        ("c/\\xff.md", "surrogates"),
        ("c/b.mp4", "unsupported"),
        ("c/big.txt", "too large"),
        ("c/noext", "unsupported"),
    ]


def test_odd_names_are_documents_like_others(tmp_path: Path) -> None:
    names = [
        "new\nline.md",
        'quo"te.md',
        "😀.md",
        "-rf.md",
        "CON.md",
        "x" * 250 + ".md",
        "e\u0301.md",
        "é.md",
        "sp ace .md",
    ]
    write(tmp_path / "c", *names)
    spec = CorpusSpec((tmp_path / "c",))
    documents = list(Reading(snapshot(spec, None, LATER), spec))
    assert [item.doc_id for item in documents if isinstance(item, Document)] == sorted(names)
    assert len(documents) == len(names)


def test_all_missing_paths_are_named_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, "documents/a.md")
    spec = CorpusSpec((tmp_path / "document", tmp_path / "documents", tmp_path / "zzz" / "x" / "*.md"))
    with pytest.raises(CorpusMissing) as caught:
        snapshot(spec, None, LATER)
    first, second = caught.value.problems
    assert first.remedy == f"did you mean {tmp_path / 'documents'}?"
    assert "zzz" in second.what


def test_a_corpus_without_a_file_to_read_is_missing_and_says_what_was_left_out(tmp_path: Path) -> None:
    write(tmp_path / "c", "a.mp4", ".b.md")
    with pytest.raises(CorpusMissing, match=r"left out: 1 hidden, 1 unsupported"):
        snapshot(CorpusSpec((tmp_path / "c",)), None, LATER)
    with pytest.raises(CorpusMissing, match="no document"):
        snapshot(CorpusSpec(()), None, LATER)


def test_roots_of_the_same_name_are_told_apart_in_sources(tmp_path: Path) -> None:
    write(tmp_path, "a/docs/x.md", "b/docs/y.md")
    spec = CorpusSpec((tmp_path / "a" / "docs", tmp_path / "b" / "docs"))
    assert [item.source for item in Reading(snapshot(spec, None, LATER), spec)] == ["a/docs/x.md", "b/docs/y.md"]


def test_an_encoding_that_does_not_exist_is_refused() -> None:
    for name in ("utf-9", "base64", "\0"):
        with pytest.raises(SettingsError, match="unknown encoding"):
            CorpusSpec((), encoding=name)


def test_the_store_in_a_corpus_is_one_row_and_never_read(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "data/b.md", "data/store/indexes/main/c.md", "data/store/cache/d.md", "other/store/e.md")
    (tmp_path / "other" / "link").symlink_to(tmp_path / "data" / "store" / "indexes")
    (tmp_path / "other" / "file.md").symlink_to(tmp_path / "data" / "store" / "cache" / "d.md")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "data")
    name, store = tmp_path.name, tmp_path / "elsewhere" / "store"
    left_out = [(f"{name}/{path}", "outside the corpus") for path in ("data/store", "other/file.md", "other/link")]
    paths, excluded = found(CorpusSpec((tmp_path,), exclude=("elsewhere",), store=store))
    assert (paths, excluded) == (["a.md", "data/b.md", "other/store/e.md"], left_out)
    assert found(CorpusSpec((tmp_path / "elsewhere",), store=store)) == (
        ["b.md"],
        [("elsewhere/store", "outside the corpus")],
    )
    assert found(CorpusSpec((tmp_path,), exclude=("elsewhere", "other", "data/store/**"), store=store))[1] == []


def test_a_corpus_path_in_the_store_is_refused_unless_it_is_a_folder_of_the_users_own(tmp_path: Path) -> None:
    write(tmp_path, "docs/a.md", "indexes/main/b.md", "c.md")
    for path in (tmp_path, tmp_path / "indexes", tmp_path / "indexes" / "main" / "b.md", tmp_path / "*.md"):
        with pytest.raises(CorpusMissing, match="is in the store") as caught:
            found(CorpusSpec((path,), store=tmp_path))
        assert caught.value.problems[0].remedy
    assert found(CorpusSpec((tmp_path / "docs", tmp_path / "c.md"), store=tmp_path))[0] == ["a.md", "c.md"]
