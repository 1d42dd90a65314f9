"""A folder as a question set: which of its files play which part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rag.errors import Problem, UsageError

_DATA = {"jsonl", "ndjson", "json", "csv", "tsv", "parquet", "trec", "txt", "qrels", "test", "topics"}
_TABLES = {"jsonl", "ndjson", "json", "csv", "tsv", "parquet"}
_PACKED = {"gz", "zst"}
_SHARD = re.compile(r"-\d+-of-\d+")


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a folder, and those of the folders in it, by name."""

    path: Path
    files: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path) -> Folder:
        """Look into a folder. Raises UsageError."""
        try:
            found = [each for pattern in ("*", "*/*") for each in path.glob(pattern) if each.is_file()]
        except OSError as error:
            what = f"{path} cannot be read: {error.strerror or error}"
            raise UsageError.at(str(path), what, "check the path of the question set") from error
        shown = [each for each in found if not any(part.startswith(".") for part in each.relative_to(path).parts)]
        return cls(path, tuple(sorted(each for each in shown if _suffix(each) in _DATA)))

    def role(self, name: str) -> tuple[Path, ...]:
        """The file of this name, whatever its suffix, or its shards, or those of the folder of this name."""
        stems = {each: _SHARD.sub("", each.name.partition(".")[0]) for each in self.files}
        here = tuple(each for each in self.files if each.parent == self.path and stems[each] == name)
        return here or tuple(each for each in self.files if each.parent == self.path / name)

    def qrels(self) -> tuple[Path, ...]:
        """Every file of judgements: `qrels*` here, and those of the folder `qrels`."""
        here = [each for each in self.files if each.parent == self.path and _judges(each)]
        return (*here, *(each for each in self.files if each.parent == self.path / "qrels"))

    def tables(self) -> tuple[Path, ...]:
        """Files in it that may be a question set for themselves."""
        return tuple(each for each in self.files if each.parent == self.path and _suffix(each) in _TABLES)


def chosen(found: tuple[Path, ...], wanted: str | None, folder: Path) -> tuple[Path, ...]:
    """The judgements that `wanted` names: by name, by name without suffix, or by what stands behind `qrels`.

    Shards of one table count as one. Raises UsageError, naming all, where the choice is not clear.
    """
    groups: dict[str, list[Path]] = {}
    for path in found:
        groups.setdefault(_SHARD.sub("", str(path.relative_to(folder))), []).append(path)
    names = [
        name for name, paths in groups.items() if wanted is None or any(_is(path, wanted, folder) for path in paths)
    ]
    if len(names) == 1:
        return tuple(groups[names[0]])
    several = f"{folder} has {len(groups)} files of judgements"
    what = (
        several if wanted is None else f"{several}, and {wanted!r} is {'no' if not names else 'more than'} one of them"
    )
    problems = [Problem(name, "judgements", f"choose it with --qrels {_short(groups[name][0])}") for name in groups]
    raise UsageError(what, problems)


def _judges(path: Path) -> bool:
    return path.name.lower().startswith("qrel") or _suffix(path) == "qrels"


def _is(path: Path, wanted: str, folder: Path) -> bool:
    given = Path(wanted)
    return wanted in {path.name, _stem(path), _short(path), str(path.relative_to(folder))} or (
        given.exists() and given.resolve() == path.resolve()
    )


def _short(path: Path) -> str:
    """`graded` of `qrels.graded.trec`, `test` of `qrels/test.tsv`."""
    return re.sub(r"^qrels?[._-]", "", _stem(path)) or _stem(path)


def _stem(path: Path) -> str:
    name = _SHARD.sub("", path.name)
    while (parts := name.rpartition("."))[2].lower() in _PACKED | _DATA and parts[0]:
        name = parts[0]
    return name


def _suffix(path: Path) -> str:
    parts = path.name.lower().split(".")
    if len(parts) > 2 and parts[-1] in _PACKED:
        parts.pop()
    return parts[-1] if len(parts) > 1 else ""
