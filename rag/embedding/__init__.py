"""Texts become vectors, and none is paid for twice.

Reading order: cache.py (vectors on disk), batching.py (requests within the provider's limits), plan.py (what would be
sent, what it costs and why), run.py (sending exactly that), refusals.py (what a provider will not take), jobs.py and
batches.py (or by the batch), ledger.py (what was spent), account.py and booked.py (on disk while it is), spend.py
(summed), queries.py (questions, through the same cache), upkeep.py (mending, merging and pruning it).
"""
