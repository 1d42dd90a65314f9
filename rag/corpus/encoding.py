"""How bytes become text: byte order mark, else strict UTF-8, else the encoding of the settings, else not at all."""

from __future__ import annotations

import codecs

from rag.corpus.page import Unreadable, whole

# UTF-32's little-endian mark begins with UTF-16's: the longer one is asked first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes([*range(9), *range(14, 27), *range(28, 32), 127])
REMEDY = "name it in [corpus] encoding, or convert the file to UTF-8"


def marked_encoding(data: bytes) -> str | None:
    """The codec that a byte order mark at the start asks for; it also swallows the mark."""
    return next((codec for mark, codec in _MARKS if data.startswith(mark)), None)


def mostly_nul(data: bytes) -> bool:
    """Whether more than a tenth is NUL: UTF-16 without a mark, or no text at all."""
    return data.count(0) * 10 > len(data)


def decode(data: bytes, encoding: str | None = None) -> str:
    """The text of a file, without its byte order mark.

    Raises Unreadable: `binary` for what is no text, `encoding` with the offset of the first bad byte, `surrogates`.
    """
    codec = marked_encoding(data)
    if codec is None and mostly_nul(data):
        if encoding is None:
            raise Unreadable("binary", f"{data.count(0):,} of {len(data):,} bytes are NUL: no text, or {_unmarked}")
        codec = encoding
    if codec is not None:
        return _decode(data, codec)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if encoding is not None:
            return _decode(data, encoding)
        if 0 in data or (len(data) - len(data.translate(None, _CONTROLS))) * 20 > len(data):
            raise Unreadable("binary", f"not UTF-8 at byte {error.start:,}, and full of control bytes") from error
        raise Unreadable("encoding", f"not UTF-8 at byte {error.start:,}; {REMEDY}") from error


_unmarked = "UTF-16 without a byte order mark (then set [corpus] encoding)"


def _decode(data: bytes, codec: str) -> str:
    try:
        return whole(data.decode(codec))
    except UnicodeError as error:
        where = f" at byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
        raise Unreadable("encoding", f"not {codec}{where}; {REMEDY}") from error
