"""Text files that a user may have written, read in one way."""

import codecs
from pathlib import Path

from qamx.errors import UserError


class TextError(UserError):
    """A file that is no UTF-8 text; `reason` is the message without the file's name."""

    def __init__(self, path: Path, found: str):
        self.reason = f"not a UTF-8 text file: {found}; save it as UTF-8"
        super().__init__(f"{path}: {self.reason}")


def read_text(path: Path) -> str:
    r"""The text of a file in UTF-8, with lines that end in `\n`, however it was saved.

    A byte-order mark, which Windows editors put first, is left out.

    **Raises:** `TextError` for another encoding, or a file that is no text; `OSError` if it
    cannot be read.
    """
    raw = path.read_bytes()
    if raw.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # begins with UTF-16's mark
        raise TextError(path, "it is in UTF-32")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TextError(path, "it is in UTF-16, as PowerShell's > writes it")
    if (place := raw.find(b"\0")) >= 0:
        raise TextError(path, f"a NUL byte in line {_line(raw, place)}")
    try:
        text = raw.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02x} in line {_line(raw, error.start)}"
        raise TextError(path, found) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line(raw: bytes, place: int) -> int:
    return raw.count(b"\n", 0, place) + 1
