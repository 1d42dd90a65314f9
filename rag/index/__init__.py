"""Vectors and tables of the published versions.

Read: kinds, build and tuning (vectors -> index.faiss), tables, manifest, current, versions (publish, rollback, gc), opening,
search (an opened version), verify (and repair).
"""
