"""Measures as values with the field's names, and what computes them.

Read in this order: `names.py` (what a measure is), `matching.py` (where in the rankings the judged documents stand),
`ranking.py` (the values from that), `spans.py`, `answers.py` (of chunks and of answers), `registry.py` (all of them), `document.py` (the page docs/measures.md).
"""
