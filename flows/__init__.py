"""The floor that people and schedulers touch: cli.py (the `ragline` command), reindex.py,
serve.py, server.py (Prefect), runners.py (with it or without).

cli.py parses and prints, commands.py calls the library, show.py draws for the terminal; none of them decides anything.
"""
