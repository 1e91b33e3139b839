"""Reads one PDF or DOCX for `text_extract`; runs in a child process (see child.py).

Failures are TOOL_ERROR with the reason DAMAGED (it is none of its kind, or broken), ENCRYPTED or
DOCUMENT_LIMIT.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from services.executor.tools.page_text import Page
from services.executor.tools.text_part import (
    HEADINGS_BYTES,
    LINKS_BYTES,
    MAX_TITLE_LENGTH,
    WHOLE,
    Part,
    cut,
    first_fitting,
)
from services.executor.tools.words import count_words

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

MAX_TEXT_LENGTH = 2_000_000
_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was read; `page_count` is None where the pages depend on the printer."""

    page: Page
    page_count: int | None


def run(request: dict[str, Any]) -> Json:
    """The output of the tool. Raises StepFailed."""
    # Each loads a library; only one is needed.
    if request["media_type"] == PDF:
        from services.executor.tools.pdf_text import read_pdf as read
    else:
        from services.executor.tools.docx_text import read_docx as read
    try:
        data = base64.b64decode(request["content_base64"], validate=True)
    except ValueError as error:
        raise damaged(f"content_base64 is no base64: {error}") from error
    document = read(data)
    return output_of(document.page, page_count=document.page_count, part=part_of(request))


def part_of(request: Mapping[str, Any]) -> Part:
    """The part of the text that an input of the tool asks for."""
    return Part(start=request.get("from_character", 0), most=request.get("max_characters"))


def output_of(page: Page, *, page_count: int | None = None, part: Part = WHOLE) -> dict[str, Json]:
    """The output of the tool for a document that was read: as much of it as an output holds."""
    links: list[Json] = [{"text": link.text, "url": link.url} for link in page.links]
    beside: dict[str, Json] = {
        "title": page.title and page.title[:MAX_TITLE_LENGTH],
        "headings": list(first_fitting(page.headings, most_bytes=HEADINGS_BYTES)),
        "links": list(first_fitting(links, most_bytes=LINKS_BYTES)),
        "word_count": count_words(page.text),
        "page_count": page_count,
    }
    text = cut(page.text, part, beside=beside)
    end = min(part.start, len(page.text)) + len(text)
    return {"text": text, "truncated": end < len(page.text), "next_character": end, **beside}


def on_one_line(text: str) -> str:
    """Text with single blanks in place of whatever blanks and breaks it has."""
    return " ".join(writable(text).split())


def writable(text: str) -> str:
    """Text without control characters and halves of characters, which no JSON text can hold."""
    return _UNWRITABLE.sub("", text)


def damaged(message: str) -> StepFailed:
    """The document is none of its kind, or broken."""
    return _failed(message, "DAMAGED")


def encrypted(message: str) -> StepFailed:
    """The document cannot be read without a password."""
    return _failed(message, "ENCRYPTED")


def too_large(message: str) -> StepFailed:
    """The document holds more than is read."""
    return _failed(message, "DOCUMENT_LIMIT")


def _failed(message: str, reason: str) -> StepFailed:
    return StepFailed(FailureCode.TOOL_ERROR, message, reason=reason)
