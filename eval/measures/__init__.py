"""Measures as values with the field's names, and what computes them.

Read in this order: `names.py` (what a measure is), `conditions.py` (when an observation has a value), `matching.py` (where
in the rankings the judged documents stand), `ranking.py` (the values from that), `spans.py` (of retrieved text),
`answers.py`, `similarity.py`, `abstention.py`, `citations.py` (of answers), `judged.py` (what a judge is shown),
`gathered.py` (what each family is computed from), `registry.py` (all of them), `document.py` (the page docs/measures.md).
`eval/scoring.py` puts them to work.
"""
