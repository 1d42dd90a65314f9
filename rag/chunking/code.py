"""`code`: Python by its syntax tree; what is not Python, or does not parse, as `structure` would."""

from __future__ import annotations

import ast
import re
import warnings

from rag.chunking import blocks
from rag.chunking.blocks import Layout, Section
from rag.chunking.structure import Structure
from rag.types import Document

_LINE_END = re.compile(r"\r\n|\r|\n")
_ABOVE = re.compile(r"[ \t]*#")
_INDENT = re.compile(r"[ \t\f]*")
Mark = tuple[int, tuple[str, ...], tuple[int, ...]]
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Code(Structure):
    """Functions, methods and what stands between them are leaf sections; their path is ("class X", "def y")."""

    name = "code"

    def layout(self, document: Document) -> Layout:
        marks = _marks(document) if document.media_type == "text/x-python" else None
        if marks is None:
            return super().layout(document)
        ends = [mark[0] for mark in marks[1:]] + [len(document.text)]
        sections = [Section(start, end, path, places) for (start, path, places), end in zip(marks, ends, strict=True)]
        return Layout(sections, [], blocks.CODE)


def _marks(document: Document) -> list[Mark] | None:
    """Where each leaf section begins, with its path; None for a text that is not Python."""
    text = document.text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text[document.body_start :])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    lines = [document.body_start, *(match.end() for match in _LINE_END.finditer(text, document.body_start))]
    outer = (document.body_start, document.context, (-1,) * len(document.context))
    marks: list[Mark] = []
    body = tree.body
    if ast.get_docstring(tree, clean=False) is not None:
        marks.append((outer[0], (*outer[1], "module docstring"), (*outer[2], -1)))
        body = body[1:]
        if body:
            _walk(body, text, lines, (_top(body[0], text, lines), *outer[1:]), marks)
        return marks
    _walk(body, text, lines, outer, marks)
    return marks or [outer]


def _walk(body: list[ast.stmt], text: str, lines: list[int], outer: Mark, marks: list[Mark]) -> None:
    """Marks of a body: one for each definition, one for each run of other statements."""
    start, path, places = outer
    running = False
    for node in body:
        if isinstance(node, Definition):
            top = _top(node, text, lines)
            kind = "class" if isinstance(node, ast.ClassDef) else "def"
            inner = (top if marks or running else min(start, top), (*path, f"{kind} {node.name}"), (*places, top))
            marks.append(inner)
            if isinstance(node, ast.ClassDef) and any(isinstance(child, Definition) for child in node.body):
                _walk(_headed(node), text, lines, inner, marks)
            running = False
        elif not running:
            marks.append((max(start, _top(node, text, lines)) if marks else start, path, places))
            running = True


def _headed(node: ast.ClassDef) -> list[ast.stmt]:
    """The body of a class from its first definition on: what stands above belongs to the class line."""
    first = next(at for at, child in enumerate(node.body) if isinstance(child, Definition))
    return node.body[first:]


def _top(node: ast.stmt, text: str, lines: list[int]) -> int:
    """Where a statement's lines begin, decorators and the comment lines right above included."""
    row = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))]) - 1
    while row and _ABOVE.match(text, lines[row - 1], lines[row]):
        row -= 1
    found = _INDENT.match(text, lines[row])
    return found.end() if found else lines[row]
