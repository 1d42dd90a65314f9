"""`sentences`: leaf sections as in `structure`, but all sentences are equal places to cut."""

from __future__ import annotations

from rag.chunking import blocks
from rag.chunking.structure import Structure


class Sentences(Structure):
    """Cuts between sentences, then lines, then words."""

    name = "sentences"
    levels = blocks.SENTENCES
