"""Single-document formats: encoding, Markdown, HTML, plain text."""

from __future__ import annotations

import codecs
import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus import html, markdown
from rag.corpus.encoding import decode
from rag.corpus.page import Page, Unreadable
from rag.corpus.read import Reading
from rag.corpus.snapshot import snapshot
from rag.corpus.spec import CorpusSpec
from rag.types import Document, Excluded

SPEC = CorpusSpec(())


def one(folder: Path, name: str, data: bytes, encoding: str | None = None) -> Document | Excluded:
    """What a corpus of one file gives."""
    (folder / "c").mkdir(exist_ok=True)
    (folder / "c" / name).write_bytes(data)
    spec = CorpusSpec((folder / "c" / name,), encoding=encoding)
    (item,) = Reading(snapshot(spec, None, 4 * 10**18), spec)
    return item


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and not text.startswith("\ufeff")))
def test_every_text_comes_back_from_each_encoding_with_a_mark(text: str) -> None:
    for mark, codec in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ):
        assert decode(mark + text.encode(codec)) == text
    assert decode(text.encode()) == text


@pytest.mark.parametrize(
    ("data", "encoding", "expected"),
    [
        (b"caf\xe9", None, ("encoding", "not UTF-8 at byte 3")),
        (b"caf\xe9", "latin-1", "café"),
        (b"ok \xff\xfe end", None, ("encoding", "not UTF-8 at byte 3")),
        ("hello wörld".encode("utf-16-le"), None, ("binary", "NUL")),
        ("hello wörld".encode("utf-16-le"), "utf-16-le", "hello wörld"),
        (b"\0" * 100, None, ("binary", "NUL")),
        (b"a text with one \0 in it", None, "a text with one \0 in it"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\x01\x02" * 9, None, ("binary", "")),
        (codecs.BOM_UTF16_LE + b"\x00\xd8", None, ("encoding", "utf-16")),
        (b"\xed\xa0\x80 surrogate in utf-8", None, ("encoding", "byte 0")),
        (b"\\ud800 \xff", "unicode_escape", ("surrogates", "")),
        ("ÀÉÈ".encode("cp1252"), "utf-16", ("encoding", "utf-16")),
        (b"\x01\x02\x03\x04", None, "\x01\x02\x03\x04"),
    ],
)
def test_bytes_become_text_or_a_reason(data: bytes, encoding: str | None, expected: str | tuple[str, str]) -> None:
    if isinstance(expected, str):
        assert decode(data, encoding) == expected
        return
    with pytest.raises(Unreadable) as caught:
        decode(data, encoding)
    assert caught.value.reason == expected[0]
    assert expected[1] in caught.value.detail


def test_a_text_file_is_a_document_unchanged(tmp_path: Path) -> None:
    item = one(tmp_path, "Notes.TXT", "\ufeffone\r\ntwo  \r\n".encode())
    assert isinstance(item, Document)
    assert (item.doc_id, item.text, item.title, item.source) == (
        "Notes.TXT",
        "one\r\ntwo  \r\n",
        "Notes",
        "c/Notes.TXT",
    )
    assert (item.media_type, item.reader, item.metadata, item.body_start) == ("text/plain", "plain/1", {}, 0)
    assert item.source_sha256 == hashlib.sha256("\ufeffone\r\ntwo  \r\n".encode()).hexdigest()


def test_source_code_says_what_it_is(tmp_path: Path) -> None:
    item = one(tmp_path, "a.py", b"def f(): ...\n")
    assert isinstance(item, Document)
    assert (item.media_type, item.reader) == ("text/x-python", "python/1")


def test_packed_text_is_unpacked(tmp_path: Path) -> None:
    import pyarrow as pa

    text = "# Packed\n" * 50
    for name, data in (
        ("a.md.gz", gzip.compress(text.encode())),
        ("b.md.zst", bytes(pa.compress(text.encode(), "zstd", asbytes=True))),
    ):
        item = one(tmp_path, name, data)
        assert isinstance(item, Document)
        assert (item.text, item.title, item.doc_id) == (text, "Packed", name)


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n ", b"\xef\xbb\xbf", b"---\na: 1\n---\n\n "])
def test_a_file_without_words_is_empty(tmp_path: Path, data: bytes) -> None:
    item = one(tmp_path, "a.md", data)
    assert isinstance(item, Excluded)
    assert item.reason == "empty"


def test_a_pointer_of_git_lfs_is_no_document(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    for name in ("a.md", "b.jsonl", "c.pdf", "d.parquet", "e.html"):
        item = one(tmp_path, name, pointer)
        assert isinstance(item, Excluded)
        assert item.reason == "pointer"


def marked_down(text: str) -> Page:
    return markdown.read(text.encode(), SPEC)


def test_front_matter_is_metadata_and_the_body_begins_behind_it() -> None:
    text = "---\r\ntitle: A  title\r\ndate: 2024-05-01\r\nat: 2024-05-01 10:00:00\r\ntags: [a, 1, 2.5, null, true]\r\n3: {x: .inf}\r\n---\r\n# H\r\n"
    page = marked_down(text)
    assert page.text == text
    assert page.text[page.body_start :] == "# H\r\n"
    assert page.title == "A title"
    assert page.metadata == {
        "title": "A  title",
        "date": "2024-05-01",
        "at": "2024-05-01T10:00:00",
        "tags": ["a", 1, 2.5, None, True],
        "3": {"x": "inf"},
    }


@pytest.mark.parametrize(
    "front",
    [
        "a: [1",
        "- a list",
        "just words",
        "a: !!python/object/apply:os.system ['false']",
        "a: &a [*a]",
        "a: &a {b: 1}\nc: {<<: *a}",
        "a: " + "[" * 700 + "]" * 700,
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "\n".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
        "d: 2024-13-45",
        'a: "\\uD800"',
        "a: @x",
    ],
)
def test_invalid_front_matter_is_body(front: str) -> None:
    page = marked_down(f"---\n{front}\n---\n# Heading\n")
    assert (page.metadata, page.body_start, page.title) == ({}, 0, "Heading")


def test_front_matter_that_does_not_end_or_does_not_stand_first_is_body() -> None:
    for text in (
        "---\na: 1\n",
        " ---\na: 1\n---\n",
        "\n---\na: 1\n---\n",
        "----\na: 1\n---\n",
        "---\n" + "a: b\n" * 20_000 + "---\n",
    ):
        assert (marked_down(text).metadata, marked_down(text).body_start) == ({}, 0)
    assert marked_down("---\n---\nx").body_start == 8


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# One\n# Two", "One"),
        ("text\n\n### Deep `code` **bold** ###\n", "Deep code bold"),
        ("# C#\n", "C#"),
        ("# Title { #anchor }\n", "Title"),
        ("# [Link](http://x) and ![pic](y.png)\n", "Link and pic"),
        ("```\n# not me\n```\n# Me", "Me"),
        ("~~~~\n# no\n~~~\n# no\n~~~~\n# Me", "Me"),
        ("Under\n=====\n", "Under"),
        ("Under\r\n---\r\n", "Under"),
        ("- item\n---\n# Real", "Real"),
        ("\n---\n# Real", "Real"),
        ("#hashtag\n", ""),
        ("    # code\n", ""),
        ("no heading", ""),
        ("#\n# Named", "Named"),
    ],
)
def test_the_first_heading_is_the_title(text: str, title: str) -> None:
    assert marked_down(text).title == title


def test_a_file_without_a_heading_is_called_by_its_name(tmp_path: Path) -> None:
    item = one(tmp_path, "plain words.md", b"nothing\n")
    assert isinstance(item, Document)
    assert item.title == "plain words"


@given(st.text(alphabet="#-=`~ \n\r[]()*ab:{}&!|>", max_size=200))
def test_markdown_keeps_every_character(text: str) -> None:
    page = marked_down(text)
    assert page.text == text
    assert 0 <= page.body_start <= len(text)


def rendered(body: str) -> str:
    return html.read(f"<html><body>{body}</body></html>".encode(), SPEC).text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<h1>One</h1><p>two\n  three</p>", "# One\n\ntwo three\n"),
        ("<h2>Head <a class=headerlink href=#h>¶</a></h2>", "## Head\n"),
        ("<p>a<br>b</p>", "a\nb\n"),
        ("<p>see <a href=x>the <b>docs</b></a> <img alt='a pic' src=y></p>", "see the docs a pic\n"),
        ("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>", "- a\n- b\n  - c\n- d\n"),
        ("<ol start=9><li>a<li>b<p>c</p></ol>", "9. a\n10. b\n\n    c\n"),
        ("<blockquote><p>a<p>b</blockquote><p>c", "> a\n>\n> b\n\nc\n"),
        ("<pre><code class='language-py'>x  =  1\n\ny\n</code></pre>", "```py\nx  =  1\n\ny\n```\n"),
        ("<pre>a ``` b</pre>", "````\na ``` b\n````\n"),
        ("<table><tr><th>a<th>b|c<tr><td colspan=2>1<tr><td>2<td><p>3<p>4</table>", "| a | b\\|c |\n| --- | --- |\n| 1 |  |\n| 2 | 3 4 |\n"),
        ("<table><tr><td><p>layout</p><tr><td># x</table>", "layout\n\n\\# x\n"),
        ("<dl><dt>t<dd>d</dl>", "t\n\n- d\n"),
        ("<p># no heading<p>- no item<p>1. one<p>&gt; q<p>```<p>| x<p>===", "\\# no heading\n\n\\- no item\n\n1\\. one\n\n\\> q\n\n\\```\n\n\\| x\n\n\\===\n"),
        ("<p>a #1 - b</p>", "a #1 - b\n"),
        ("a&nbsp;b &lt;c&gt; &#x1F600; &#xD800;", "a b <c> 😀 \ufffd\n"),
        ("<script>x</script><style>y</style><nav>n</nav><footer>f</footer><aside>s</aside>text<!-- c -->", "text\n"),
        ("<form>f<input value=x></form><p>text</p>", "text\n"),
        ("<form><p>all in a form</p><input></form>", "all in a form\n"),
        ("<p hidden>a<p style='display: none'>b<p aria-hidden=true>c<p>d", "d\n"),
        ("<header>site</header><article><header><h1>T</h1></header>" + "word " * 20 + "</article>", "# T\n\n" + ("word " * 20).strip() + "\n"),
        ("<div>menu</div><main>the main text of it all</main>", "the main text of it all\n"),
        ("<p>long text before the main element, which is short</p><main>x</main>", "long text before the main element, which is short\n\nx\n"),
        ("<p>un<b>clo<i>sed", "unclosed\n"),
        ("</p></div>x</body></html>y", "xy\n"),
        ("<script>never closed", ""),
    ],
)  # fmt: skip
def test_html_becomes_markdown(body: str, text: str) -> None:
    assert rendered(body) == text


def test_html_names_its_title_language_and_authors() -> None:
    page = html.read(
        b"<html lang=de><head><title> A\n title </title><meta name=Description content=' what '><meta name=author content=me>"
        b"<meta property='article:published_time' content=2024-01-01><meta name=viewport content=x></head><body>x",
        SPEC,
    )
    assert page.title == "A title"
    assert page.metadata == {"lang": "de", "description": "what", "author": "me", "date": "2024-01-01"}
    assert html.read(b"<h1>Only <i>this</i></h1>", SPEC).title == "Only this"


def test_a_charset_that_the_page_declares_is_believed_where_utf8_fails() -> None:
    page = b"<meta charset='iso-8859-1'><p>caf\xe9 \x93q\x94</p>"
    assert html.read(page, SPEC).text == "café “q”\n"
    with pytest.raises(Unreadable, match="UTF-8"):
        html.read(page.replace(b"iso-8859-1", b"nonsense"), SPEC)


@given(st.text(alphabet="<>/ abpliutdrh1\"'=&;!-", max_size=300))
def test_no_html_is_too_broken_to_read(text: str) -> None:
    page = html.read(text.encode(), SPEC)
    assert page.text.encode() is not None


def test_an_html_file_is_a_markdown_document(tmp_path: Path) -> None:
    item = one(tmp_path, "a.html", b"<p>hello</p>")
    assert isinstance(item, Document)
    assert (item.media_type, item.text, item.title) == ("text/markdown", "hello\n", "a")
    assert item.reader.startswith("html/1+selectolax-")
