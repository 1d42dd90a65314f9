"""A question and passages -> a grounded, cited answer. Read: prompt, answer, citations, sentences, words, asked, nearness, evidence, extractive."""
