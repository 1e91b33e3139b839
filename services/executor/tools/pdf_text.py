"""PDF to text with pypdf: the pages' text in order, title, outline and web links.

Scanned pages have no text; there is no OCR.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pypdf
from pypdf.errors import LimitReachedError

from libs.core.errors import StepFailed
from services.executor.tools.document_text import (
    MAX_TEXT_LENGTH,
    Document,
    damaged,
    encrypted,
    on_one_line,
    too_large,
    writable,
)
from services.executor.tools.page_text import (
    MAX_HEADINGS,
    MAX_LINKS,
    MAX_URL_LENGTH,
    Link,
    Page,
)

MAX_PAGES = 1000
_MAX_ANNOTATIONS = 100_000
_SCHEMES = ("http://", "https://", "mailto:")


def read_pdf(data: bytes) -> Document:
    """Read a PDF. Raises StepFailed."""
    if not data[:1024].lstrip().startswith(b"%PDF-"):
        raise damaged("the data does not begin like a PDF")
    try:
        return _read(pypdf.PdfReader(io.BytesIO(data), strict=False))
    except (StepFailed, MemoryError):
        raise
    except LimitReachedError as error:
        raise too_large("a part of the PDF unpacks to more than is read") from error
    except Exception as error:
        # A broken file makes the library raise whatever its parts then raise.
        raise damaged(f"the PDF is damaged ({type(error).__name__})") from error


def _read(reader: pypdf.PdfReader) -> Document:
    if reader.is_encrypted and not reader.decrypt(""):
        raise encrypted("the PDF is encrypted and needs a password")
    count = len(reader.pages)
    if count > MAX_PAGES:
        raise too_large(f"the PDF has {count} pages; {MAX_PAGES} are allowed")
    texts: list[str] = []
    length = 0
    for sheet in reader.pages:
        text = writable(sheet.extract_text()).strip()
        length += len(text)
        if length > MAX_TEXT_LENGTH:
            raise too_large(f"the PDF has more than {MAX_TEXT_LENGTH} characters of text")
        texts.append(text)
    title = on_one_line(str((reader.metadata and reader.metadata.title) or ""))
    page = Page(
        text="\n\n".join(text for text in texts if text),
        title=title or None,
        headings=tuple(_headings(reader.outline)),
        links=tuple(_links(reader)),
    )
    return Document(page=page, page_count=count)


def _headings(outline: list[Any]) -> Iterator[str]:
    """The titles of the outline, a deeper level after its own title."""
    left: list[Any] = list(reversed(outline))
    found = 0
    while left and found < MAX_HEADINGS:
        entry = left.pop()
        if isinstance(entry, list):
            left.extend(reversed(entry))
        elif title := on_one_line(str(entry.title or "")):
            found += 1
            yield title


def _links(reader: pypdf.PdfReader) -> Iterator[Link]:
    found = seen = 0
    for page in reader.pages:
        for reference in page.get("/Annots") or ():
            seen += 1
            if found >= MAX_LINKS or seen > _MAX_ANNOTATIONS:
                return
            url = _url_of(reference.get_object())
            if url is not None:
                found += 1
                yield Link(url, url)


def _url_of(annotation: Any) -> str | None:
    action = annotation.get("/A") if isinstance(annotation, dict) else None
    action = action.get_object() if action is not None else None
    target = action.get("/URI") if isinstance(action, dict) else None
    url = on_one_line(str(target or ""))
    return url if url.startswith(_SCHEMES) and len(url) <= MAX_URL_LENGTH else None
