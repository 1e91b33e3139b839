"""DOCX to text: the body's paragraphs and tables, title, headings and links.

Headers, footers, notes and what was struck out are left aside. XML is read with expat, as a stream;
a document type, and with it every entity, is refused.
"""

from __future__ import annotations

import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from xml.parsers import expat

from services.executor.tools.document_text import (
    MAX_TEXT_LENGTH,
    Document,
    damaged,
    encrypted,
    on_one_line,
    too_large,
)
from services.executor.tools.docx_body import BodyReader
from services.executor.tools.page_text import MAX_URL_LENGTH
from services.executor.tools.xml_stream import XmlReader, read_xml

MAX_PART_BYTES = 32 * 2**20
MAX_PARTS = 10_000

# What the reader of packages raises for broken ones.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    ValueError,
)
_OLD_OFFICE = b"\xd0\xcf\x11\xe0"
_ENCRYPTED_FLAG = 0x1
_HEADING = re.compile(r"heading [1-9]", re.IGNORECASE)
_SCHEMES = ("http://", "https://", "mailto:")


def read_docx(data: bytes) -> Document:
    """Read a DOCX. Raises StepFailed."""
    if data.startswith(_OLD_OFFICE):
        raise encrypted("the document is encrypted, or of Word before 2007; DOCX is read")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            return _read(package)
    except _BROKEN as error:
        raise damaged(f"the DOCX is no readable package ({type(error).__name__})") from error
    except expat.ExpatError as error:
        raise damaged(f"the DOCX holds broken XML: {expat.ErrorString(error.code)}") from error


def _read(package: zipfile.ZipFile) -> Document:
    parts = {part.filename: part for part in package.infolist()}
    if len(parts) > MAX_PARTS:
        raise too_large(f"the DOCX has {len(parts)} parts; {MAX_PARTS} are allowed")
    if "word/document.xml" not in parts:
        raise damaged("the DOCX has no word/document.xml")
    links, styles, core = _Links(), _Styles(), _Core()
    for name, reader in (
        ("word/_rels/document.xml.rels", links),
        ("word/styles.xml", styles),
        ("docProps/core.xml", core),
    ):
        if name in parts:
            read_xml(_bytes_of(package, parts[name]), reader)
    body = BodyReader(urls=links.urls, headings=styles.headings, most=MAX_TEXT_LENGTH)
    read_xml(_bytes_of(package, parts["word/document.xml"]), body)
    return Document(page=body.page(title=on_one_line(core.title) or None), page_count=None)


def _bytes_of(package: zipfile.ZipFile, part: zipfile.ZipInfo) -> bytes:
    """A part, unpacked; what its directory says of its size is not believed."""
    if part.flag_bits & _ENCRYPTED_FLAG:
        raise encrypted(f"{part.filename} is encrypted")
    with package.open(part) as opened:
        data = opened.read(MAX_PART_BYTES + 1)
    if len(data) > MAX_PART_BYTES:
        raise too_large(f"{part.filename} unpacks to more than {MAX_PART_BYTES} bytes")
    return data


class _Links(XmlReader):
    """Targets of relationships, by id."""

    def __init__(self) -> None:
        self.urls: dict[str, str] = {}

    def opened(self, name: str, attributes: Mapping[str, str]) -> None:
        url = attributes.get("Target", "").strip()
        is_web = attributes.get("TargetMode") == "External" and url.startswith(_SCHEMES)
        if name == "Relationship" and is_web and len(url) <= MAX_URL_LENGTH:
            self.urls[attributes.get("Id", "")] = url


class _Styles(XmlReader):
    """Ids of the styles of headings: an id may be in any language, the name of a style is not."""

    def __init__(self) -> None:
        self.headings: set[str] = set()
        self._style = ""

    def opened(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "style":
            self._style = attributes.get("styleId", "")
        elif name == "name" and _HEADING.fullmatch(attributes.get("val", "")):
            self.headings.add(self._style)


class _Core(XmlReader):
    """The title in the document's properties."""

    def __init__(self) -> None:
        self.title = ""
        self._in_title = False

    def opened(self, name: str, attributes: Mapping[str, str]) -> None:
        del attributes
        self._in_title = name == "title"

    def closed(self, name: str) -> None:
        del name
        self._in_title = False

    def text(self, data: str) -> None:
        if self._in_title:
            self.title += data
