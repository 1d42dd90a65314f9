"""Verify sees every damaged byte and names what mends it; repair puts back the very same bytes or says that it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rag.errors import Damaged, FormatTooNew, NotFound
from rag.index.kinds import INDEX_KINDS
from rag.index.manifest import BUILD, MANIFEST, Manifest, version_files
from rag.index.verify import Finding, Verified, check_current, check_version, put_back, remake_index
from rag.index.versions import Versions
from rag.retrieval import lexical
from rag.sealed import write_sealed
from tests.index.making import blocks_of, make_folder, texts, vectors

Stage = Callable[..., Path]


@pytest.fixture(scope="module", params=INDEX_KINDS)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """Two published versions of each index kind; tests restore what they break."""
    store = tmp_path_factory.mktemp("store")
    versions = Versions(store, "main")
    for seed in (1, 2):
        make_folder(store / "staging" / "s", texts(300, seed), vectors(300, seed=seed), kind=request.param)
        versions.publish_staged(store / "staging" / "s")
    return versions


def findings(versions: Versions) -> tuple[Finding, ...]:
    """What is wrong with CURRENT, or else with the newest version."""
    return check_current(versions).findings + check_version(versions, versions.numbers()[-1]).findings


def broken(versions: Versions) -> list[str]:
    return list(dict.fromkeys(finding.file for finding in findings(versions)))


def files_of(versions: Versions) -> dict[str, Path]:
    folder = versions.folder(2)
    return {
        **{name: folder / name for name in sorted(version_files(folder))},
        "CURRENT": versions.root / "CURRENT",
        "CURRENT.backup": versions.root / "CURRENT.backup",
    }


def test_a_sound_version_has_no_findings(published: Versions) -> None:
    assert findings(published) == ()
    assert (check_current(published).checked, check_version(published, 2).checked) == (2, 11)
    assert check_version(published, 1).findings == ()


def test_two_hundred_flipped_bits_are_all_found_and_never_served(published: Versions) -> None:
    rng = np.random.default_rng(7)
    files, turns = files_of(published), 200
    if Manifest.load(published.folder(2) / MANIFEST).kind != "flat":  # of the others only these two are not the same
        files, turns = {name: files[name] for name in ("index.faiss", MANIFEST)}, 40
    for turn in range(turns):
        name = list(files)[turn % len(files)]
        right = files[name].read_bytes()
        near_an_end = rng.random() < 0.5
        place = int(rng.integers(0, min(256, len(right)))) if near_an_end else int(rng.integers(0, len(right)))
        place = len(right) - 1 - place if near_an_end and turn % 2 else place
        wrong = bytearray(right)
        wrong[place] ^= 1 << int(rng.integers(0, 8))
        files[name].write_bytes(wrong)
        try:
            assert broken(published) == [name], f"{name} byte {place}"
            found = findings(published)[0]
            assert found.repair
            assert found.expected != found.actual
            if name not in (BUILD, "CURRENT.backup"):
                with pytest.raises(Damaged) as caught:
                    published.open()
                assert name in caught.value.problems[0].where
        finally:
            files[name].write_bytes(right)
    assert findings(published) == ()


def test_cut_lengthened_missing_swapped_and_foreign_files_are_found(published: Versions) -> None:
    files = files_of(published)
    old = published.folder(1)
    for name, path in files.items():
        right = path.read_bytes()
        others = [b"", right[:1], right[: len(right) // 2], right[:-1], right + b"\0", None]
        if (old / name).exists() and name != BUILD and (old / name).read_bytes() != right:
            others.append((old / name).read_bytes())
        for wrong in others:
            path.unlink() if wrong is None else path.write_bytes(wrong)
            found = broken(published)
            path.write_bytes(right)
            if wrong is None and name == "CURRENT.backup":
                continue
            assert found == [name], f"{name} became {wrong and wrong[:20]!r}"
    folder = published.folder(2)
    a, b = folder / "lexical" / "data.npy", folder / "lexical" / "indices.npy"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    assert set(broken(published)) == {"lexical/data.npy", "lexical/indices.npy"}
    a.write_bytes(first)
    b.write_bytes(second)
    (folder / "notes.txt").write_text("mine")
    assert [(f.file, f.actual) for f in findings(published)] == [("notes.txt", "present")]
    (folder / "notes.txt").unlink()
    assert findings(published) == ()


def test_files_of_right_bytes_that_do_not_fit_together_are_found(tmp_path: Path) -> None:
    versions = Versions(tmp_path, "main")
    folder = tmp_path / "staging" / "s"
    manifest = make_folder(folder, texts(40), vectors(40))
    values = manifest.to_json()
    tests = values["index"]["self_test"]  # type: ignore[index,call-overload]
    tests[0]["scores"][0] += 0.01  # type: ignore[index,operator,call-overload]
    write_sealed(folder / MANIFEST, {**values, "rows": 40})
    versions.publish_staged(folder)
    assert broken(versions) == ["index.faiss"]
    assert "self-test 0" in findings(versions)[0].expected
    folder = tmp_path / "staging" / "t"
    values = make_folder(folder, texts(40), vectors(40)).to_json()
    write_sealed(folder / MANIFEST, {**values, "rows": 41})
    versions.publish_staged(folder)
    assert findings(versions)[0].file == "index.faiss"
    with pytest.raises(Damaged, match="manifest says"), versions.open() as opened:
        opened.search(vectors(1), 1)


def test_a_newer_version_is_refused_not_called_damaged(tmp_path: Path) -> None:
    versions = Versions(tmp_path, "main")
    values = make_folder(tmp_path / "staging" / "s", texts(10), vectors(10)).to_json()
    write_sealed(tmp_path / "staging" / "s" / MANIFEST, {**values, "format": 2})
    versions.publish_staged(tmp_path / "staging" / "s")
    for act in (lambda: check_version(versions, 1), versions.open):
        with pytest.raises(FormatTooNew):
            act()


def test_what_is_not_there_is_said(versions: Versions, stage: Stage) -> None:
    assert check_current(versions) == Verified(0, ())
    versions.publish_staged(stage())
    with pytest.raises(NotFound, match="no version 5"):
        check_version(versions, 5)
    shutil.rmtree(versions.folder(1))
    assert check_current(versions).files == (f"v000001/{MANIFEST}",)
    with pytest.raises(Damaged, match="gone"):
        versions.open()


def test_repair_puts_back_the_same_bytes(published: Versions) -> None:
    folder = published.folder(2)
    before = {name: (folder / name).read_bytes() for name in version_files(folder)}
    (folder / "index.faiss").write_bytes(b"broken")
    (folder / "lexical" / "data.npy").unlink()
    (folder / "lexical" / "vocabulary.json").write_bytes(b"[]")
    remake_index(folder, blocks_of(vectors(300, seed=2), 77))
    lexical.remake(folder)
    assert {name: (folder / name).read_bytes() for name in version_files(folder)} == before
    assert findings(published) == ()
    assert list((published.root.parent.parent / "staging").iterdir()) == []


def test_a_repair_that_gives_other_bytes_changes_nothing(published: Versions, tmp_path: Path) -> None:
    folder = published.folder(2)
    before = (folder / "index.faiss").read_bytes()
    with pytest.raises(Damaged, match="cannot be made again") as caught:
        remake_index(folder, blocks_of(vectors(300, seed=3)))
    assert "rollback" in caught.value.problems[0].remedy
    (tmp_path / "made").write_bytes(b"other")
    with pytest.raises(Damaged):
        put_back(folder, "chunks.parquet", tmp_path / "made")
    assert (folder / "index.faiss").read_bytes() == before
    assert findings(published) == ()


def test_a_manifest_is_readable_without_us(published: Versions) -> None:
    values = json.loads((published.folder(2) / MANIFEST).read_bytes())
    assert set(values["files"]) == {*Manifest.load(published.folder(2) / MANIFEST).files}
    assert values["files"]["index.faiss"]["bytes"] == (published.folder(2) / "index.faiss").stat().st_size
