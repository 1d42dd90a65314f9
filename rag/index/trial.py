"""A version is tried out before anybody sees it: opened as a reader would, and searched for its own rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rag.embedding.cache import Found
from rag.errors import Damaged, Problem
from rag.index.kinds import INDEX_KINDS, RECALL_TARGET
from rag.index.search import map_index

SAMPLE = 64


def try_out(path: Path, rows: int, kind: str, found: Found) -> None:
    """Search sampled rows of the index at `path` by the vectors they were made from. Raises Damaged.

    Equal vectors stand for each other: what counts is the score of the nearest row, which is 1 for the row itself.
    """
    import faiss

    wanted = np.unique(np.linspace(0, rows - 1, min(SAMPLE, rows)).astype(np.int64))
    parts = []
    for part in np.array_split(wanted, SAMPLE // 8):
        # a page of a map comes with its neighbours, up to 2 MB: 64 rows at once could hold 128 MB
        parts.append(found.gather(part))
        found.release()
    queries = np.concatenate(parts)
    faiss.normalize_L2(queries)
    index = map_index(path)
    scores, nearest = index.search(queries, 1)
    right = ((nearest[:, 0] >= 0) & (np.abs(scores[:, 0] - 1) < 0.02)).mean()
    if index.ntotal != rows or right < (1.0 if INDEX_KINDS[kind].exact else RECALL_TARGET - 0.1):
        what = f"the index just built finds {right:.0%} of its own rows; it was not published"
        raise Damaged(what, [Problem(str(path), what, "run the same command again; if it stays, check the memory")])
