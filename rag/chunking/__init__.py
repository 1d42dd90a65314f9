"""A document becomes chunks: exact spans, cut at structure, every count exact.

Read in this order: `tokens.py` (how many tokens, and where they begin), `blocks.py` (where a text may be cut),
`split.py` (which of those places are taken), then one file a strategy: `structure.py`, `sentences.py`, `fixed.py`,
`code.py`. `registry.py` names them.
"""
