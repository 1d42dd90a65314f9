"""Questions -> rows with scores -> passages.

Read in this order: `lexical.py` (with `build_lexical.py`, its process), `fusion.py`, `retrievers.py`, `passages.py`.
"""
