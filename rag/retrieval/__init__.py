"""A question -> rows with scores -> passages. Read: lexical (and build_lexical, its process), fusion, retrievers, passages."""
