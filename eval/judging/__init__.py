"""What the judge and its calibration are made of.

Read in this order: `prompts.py` (what a judge is asked, and the boundaries around what it judges), `replies.py` (how its
reply becomes a value, or does not), `people.py` (answers that people judged), `agreement.py` (how far two raters agree).
`eval/judge.py` and `eval/calibrate.py` put them together.
"""
