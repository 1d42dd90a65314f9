"""A question and passages -> a grounded, cited answer.

Read: prompt, answer, citations, sentences, words, then for the answers without a model asked, nearness, evidence,
extractive.
"""
