"""manifest.json: what goes in comes out, any flipped byte is seen, a newer one is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from rag.digest import canonical, digest
from rag.errors import Damaged, FormatTooNew
from rag.index.manifest import FileDigest, Manifest
from rag.sealed import read_sealed, write_sealed
from rag.types import EmbeddingIdentity

MANIFEST = Manifest(
    content_digest="c" * 64,
    embedding=EmbeddingIdentity("openai", "text-embedding-3-small", "https://api.example", "", 256),
    dimensions=256,
    readers=("markdown/1", "html/2"),
    chunker={"strategy": "structure"},
    tokenizer={"name": "cl100k_base"},
    tokens_exact=True,
    index={"kind": "flat", "parameters": {"factory": "Flat"}, "tuned": {}, "recall": None, "self_test": []},
    lexical={"k1": 1.2},
    counts={"documents": 1, "chunks": 2, "duplicates": 0, "excluded": 0},
    rows=2,
    files={"index.faiss": FileDigest(10, "a" * 64)},
)


def test_a_manifest_comes_back_equal_and_as_the_same_bytes(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path)
    first = (tmp_path / "manifest.json").read_bytes()
    again = Manifest.load(tmp_path / "manifest.json")
    assert again == MANIFEST
    again.save(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == first
    assert json.loads(first)["metric"] == "inner_product"


def test_every_flipped_bit_of_a_manifest_is_seen(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path)
    path = tmp_path / "manifest.json"
    data = path.read_bytes()
    for place in range(len(data)):
        for bit in (1, 32):
            with pytest.raises(Damaged):
                Manifest.parse(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :], path)
    for other in (b"", data[:-1], data + b" ", data[:50], b"[]", b"null", b"{}"):
        with pytest.raises(Damaged):
            Manifest.parse(other, path)


def test_a_newer_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    dataclasses.replace(MANIFEST, format=2).save(tmp_path)
    with pytest.raises(FormatTooNew, match="format 2") as caught:
        Manifest.load(tmp_path / "manifest.json")
    assert caught.value.exit_code == 2
    assert "upgrade" in caught.value.problems[0].remedy


def test_a_sealed_manifest_that_lacks_a_field_is_damaged(tmp_path: Path) -> None:
    values = MANIFEST.to_json()
    del values["rows"]
    write_sealed(tmp_path / "manifest.json", values)
    with pytest.raises(Damaged, match="lacks"):
        Manifest.load(tmp_path / "manifest.json")


def test_sealed_json_is_plain_json_whose_seal_anyone_can_check(tmp_path: Path) -> None:
    write_sealed(tmp_path / "build.json", {"created": "2026-11-22", "usd": 0.1})
    assert read_sealed(tmp_path / "build.json") == {"created": "2026-11-22", "usd": 0.1}
    values = json.loads((tmp_path / "build.json").read_bytes())
    seal = values.pop("sealed_sha256")
    assert seal == digest(values)
    assert canonical(values) == b'{"created":"2026-11-22","usd":0.1}'
