"""From paths to documents: what lies there, whether it changed, and the text of each, in order of doc_id.

Read in this order: `spec.py` (what is asked for), `sources.py` (what lies there), `snapshot.py` (whether it changed),
`read.py` (the ordered stream), `readers.py` (which format reads which suffix), `page.py` and `encoding.py` (what every
reader gives and how bytes become text). Then one file a format: `markdown.py`, `html.py`, `plain.py`, `office.py` for
files that are one document; `records.py` with `jsonl.py`, `delimited.py` and `parquet.py` for files of many.
Beside them: `patterns.py` (globs), `reasons.py` (why something is no document), `values.py` (JSON of whatever a parser
gives), `unpack.py` (packed files), `spool.py` (records that wait for their order), `worker.py` (parsers in a process of
their own).
"""
