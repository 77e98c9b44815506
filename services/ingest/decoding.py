"""Bytes of an upload to text: finds the encoding by the byte order mark and refuses what is no text."""

import codecs

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
# What people upload by mistake, by its first bytes.
_OTHER_FORMATS = (
    (b"PK\x03\x04", "a ZIP archive, perhaps an .xlsx workbook"),
    (b"\xd0\xcf\x11\xe0", "an old .xls workbook"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a RIFF file, perhaps a WebP image"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (codecs.BOM_UTF32_LE, "UTF-32 text"),
    (codecs.BOM_UTF32_BE, "UTF-32 text"),
)
_LONGEST_SIGNATURE = 4


class NotTextError(Exception):
    """The bytes are not text that a CSV could be made of; the message says what was found."""


class TextDecoder:
    """Decodes UTF-8 (with or without byte order mark) and UTF-16 (with one), chunk by chunk.

    The text before the first fault is handed out, so that a reader knows in which line the fault stands.
    """

    def __init__(self) -> None:
        self._head: bytes = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._encoding = ""

    def decode(self, data: bytes, *, final: bool = False) -> tuple[str, NotTextError | None]:
        """The text of `data` up to its first fault, and the fault."""
        if self._decoder is None:
            data = self._head + data
            if len(data) < _LONGEST_SIGNATURE and not final:
                self._head = data
                return "", None
            for signature, what in _OTHER_FORMATS:
                if data.startswith(signature):
                    return "", NotTextError(f"this is {what}, not a CSV file")
            self._decoder, data = self._choose(data)
        return self._checked(self._decoder, data, final=final)

    def _choose(self, data: bytes) -> tuple[codecs.IncrementalDecoder, bytes]:
        codec, self._encoding, mark = "utf-8", "UTF-8", b""
        for candidate, candidate_codec, name in _BYTE_ORDER_MARKS:
            if data.startswith(candidate):
                codec, self._encoding, mark = candidate_codec, name, candidate
        return codecs.getincrementaldecoder(codec)("strict"), data[len(mark) :]

    def _checked(
        self, decoder: codecs.IncrementalDecoder, data: bytes, *, final: bool
    ) -> tuple[str, NotTextError | None]:
        fault: NotTextError | None = None
        try:
            text = decoder.decode(data, final)
        except UnicodeDecodeError as error:
            text = error.object[: error.start].decode(error.encoding)
            found = " ".join(f"0x{byte:02X}" for byte in error.object[error.start : error.end])
            fault = NotTextError(f"{found} is not valid {self._encoding}; save the file as UTF-8")
        before, nul, _ = text.partition("\0")
        return (before, NotTextError("a NUL character was found; this is not a text file")) if nul else (text, fault)
