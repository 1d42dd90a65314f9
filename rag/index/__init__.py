"""Vectors and tables of the published versions.

Read in this order: `prepare.py` (documents -> chunks on disk, keys in memory), `differences.py` (what changed, and why a
text is sent), `plan_file.py` (a plan that is kept), `tables.py` and `stage.py` (what is written), `kinds.py`, `build.py`
and `tuning.py` (vectors ->
index.faiss), `trial.py` (is it any good), `manifest.py`, `current.py`, `versions.py` (publish, rollback, gc),
`experiments.py`, `opening.py` and `search.py` (an opened version), `verify.py` (and repair). `memory.py` remembers the sources.
"""
