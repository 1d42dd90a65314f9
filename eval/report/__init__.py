"""One HTML page from a run folder alone.

Read in this order: `render.py` (the page from top to bottom), `load.py` (what the folder holds), `markup.py` (how text
becomes markup, and nothing else does), `numbers.py` (figures as people read them), `plots.py` (drawings), then the
parts: `head.py`, `headline.py`, `conclusions.py`, `slices.py`, `spread.py`, `effort.py`, `worst.py` with
`order.py` and `passages.py`, `settings.py`. `page.css` is how it looks.
"""
