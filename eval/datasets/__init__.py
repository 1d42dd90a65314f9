"""Question sets: whatever form a file or folder has, it becomes questions with answers, gold and judgements.

Read in this order: `read.py` (a path becomes a set), `registry.py` (every format), `files.py` and `folder.py` (what
stands there), `tell.py` (how surely a format knows its own), `draft.py` (rows and their mistakes), `tags.py`. Then one
file a format: `canonical.py`; `layout.py` with `table.py`, `ragas.py`, `openai_evals.py`; `contexts.py` with `squad.py`,
`clapnq.py`, `passages.py`; `retrieval.py` (BEIR, TREC). `known.py` names what is recognised and not read. What is done
with a set: `select.py`, `resolve.py` (gold against an index), `corpus.py` (the corpus it brings), `convert.py`,
`describe.py`.
"""
