"""The harness as a library: questions in, figures out. Knows rag; never Prefect.

Read in this order: `types.py` (what a question is), `questions.py` (the file of them), `retrieval.py` (how well the
passages are found, by each way of retrieving). Not yet behind a command: `trec.py` (qrels and runs), `measures/` (each
measure by its name), `score.py` (a run against qrels), `statistics.py` (intervals by cluster).
"""
