"""`tokens`, `sentences` and `code`."""

from __future__ import annotations

import itertools

SOURCE = '''"""What it is."""

import re

# counts
LIMIT = 3


# above the class
@decorated
class Reader:
    """Reads."""

    size: int = 1

    def read(self) -> int:
        return LIMIT

    # above the method
    @property
    async def name(self) -> str:
        def inner() -> None: ...
        return "x"

    after = 2


def main(): pass
'''


def test_code_is_cut_at_definitions(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    chunks = checked(make("code"), write(SOURCE, "text/x-python", context=("pkg",)))
    assert [(chunk.heading_path, chunk.text.split("\n")[0]) for chunk in chunks] == [
        (("pkg", "module docstring"), '"""What it is."""'),
        (("pkg",), "import re"),
        (("pkg", "class Reader"), "# above the class"),
        (("pkg", "class Reader", "def read"), "def read(self) -> int:"),
        (("pkg", "class Reader", "def name"), "# above the method"),
        (("pkg", "class Reader"), "after = 2"),
        (("pkg", "def main"), "def main(): pass"),
    ]
    assert chunks[3].prefix == "pkg > class Reader\n\n"


def test_what_is_not_python_is_cut_as_structure(make, write) -> None:  # type: ignore[no-untyped-def]
    for text, media_type in (
        ("def broken(:\n\n# x\n", "text/x-python"),
        ("# A\n\ntext", "text/markdown"),
        ("\0", "text/x-python"),
    ):
        assert list(make("code").chunk(write(text, media_type))) == list(make().chunk(write(text, media_type)))


def test_code_of_every_line_end_and_shape_is_covered(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    for text in (
        SOURCE,
        SOURCE.replace("\n", "\r\n"),
        SOURCE.replace("\n", "\r"),
        "x = 1; y = 2",
        "# only\n",
        "'doc'",
        "def f(): 0\n\f\ndef g(): 1\n",
    ):
        for size in (16, 64):
            checked(make("code", size=size, overlap=4), write(text, "text/x-python"))


def test_token_windows_are_full_and_share_the_overlap(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    chunks = checked(
        make("tokens", size=64, overlap=16), write("one two three four five six seven " * 60, "text/plain")
    )
    assert all(62 <= chunk.tokens <= 64 for chunk in chunks[:-1])
    assert all(later.start < earlier.end for earlier, later in itertools.pairwise(chunks))


def test_sentences_are_cut_alike_whatever_the_blocks(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    chunks = checked(make("sentences", size=64), write("One is here. Two is there.\n\nThree. " * 40))
    assert all(chunk.text.endswith(".") for chunk in chunks)
