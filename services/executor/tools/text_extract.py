"""`text_extract`: the readable text of a document, with title, headings and links.

Plain text and HTML are read here, PDF and DOCX in a process of their own.
"""

from __future__ import annotations

import asyncio
from typing import cast

from libs.core.canonical import Json
from libs.core.tool_spec import ToolExample, ToolSpec
from services.executor.tools.child_process import ChildLimits, ChildProcesses
from services.executor.tools.document_text import (
    DOCX,
    MAX_TEXT_LENGTH,
    PDF,
    output_of,
    part_of,
)
from services.executor.tools.page_text import (
    MAX_HEADINGS,
    MAX_LINKS,
    MAX_URL_LENGTH,
    read_html,
    read_plain,
)
from services.executor.tools.text_part import MAX_TITLE_LENGTH, WHOLE, Part
from services.executor.tools.tool import ToolContext

MAX_CONTENT_LENGTH = 1_000_000
MAX_BASE64_LENGTH = 1_000_000
"""Whatever a step takes in has at most 1 MiB."""
LIMITS = ChildLimits(seconds=60, cpu_seconds=30, memory_bytes=768 * 2**20, answer_bytes=16 * 2**20)

_INLINE_LENGTH = 5_000

SPEC = ToolSpec(
    name="text_extract",
    version="1.2.0",
    description=(
        "Takes the readable text, title, headings (the first 500) and links (the first 1000) out "
        "of a plain text, HTML, PDF or DOCX document, as much as the 256 KiB of an output hold; "
        "scripts and styles are dropped."
    ),
    input_schema={
        "type": "object",
        "properties": {
            "content": {
                "type": "string",
                "description": "Plain text or HTML.",
                "maxLength": MAX_CONTENT_LENGTH,
            },
            "content_base64": {
                "type": "string",
                "description": "The bytes of a PDF or DOCX, as base64.",
                "maxLength": MAX_BASE64_LENGTH,
            },
            "media_type": {"enum": ["text/plain", "text/html", PDF, DOCX]},
            "from_character": {
                "type": "integer",
                "description": "Where in its text to begin; 0 when it is not given.",
                "minimum": 0,
                "maximum": MAX_TEXT_LENGTH,
            },
            "max_characters": {
                "type": "integer",
                "description": "How much text at most; as much as fits when it is not given.",
                "minimum": 1,
                "maximum": MAX_TEXT_LENGTH,
            },
        },
        "required": ["media_type"],
        "if": {"properties": {"media_type": {"enum": [PDF, DOCX]}}},
        "then": {"properties": {"content": False}, "required": ["content_base64"]},
        "else": {"properties": {"content_base64": False}, "required": ["content"]},
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "truncated": {"type": "boolean", "description": "Whether there is more text."},
            "next_character": {
                "type": "integer",
                "description": "Where text ends: from_character of a step that goes on.",
                "minimum": 0,
            },
            "title": {"type": ["string", "null"], "maxLength": MAX_TITLE_LENGTH},
            "headings": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_HEADINGS},
            "links": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "text": {"type": "string"},
                        "url": {"type": "string", "maxLength": MAX_URL_LENGTH},
                    },
                    "required": ["text", "url"],
                    "additionalProperties": False,
                },
                "maxItems": MAX_LINKS,
            },
            "word_count": {
                "type": "integer",
                "description": "Of the whole document.",
                "minimum": 0,
            },
            "page_count": {"type": ["integer", "null"], "description": "Of a PDF."},
        },
        "required": [
            "text",
            "truncated",
            "next_character",
            "title",
            "headings",
            "links",
            "word_count",
            "page_count",
        ],
        "additionalProperties": False,
    },
    examples=(
        ToolExample(
            title="A page of the web",
            input={
                "content": (
                    "<title>Prices</title><h1>Fruit</h1><p>Apples cost <b>2</b> EUR.</p>"
                    "<script>x()</script><a href='https://example.com/pears'>Pears</a>"
                ),
                "media_type": "text/html",
            },
            output={
                "text": "Fruit\n\nApples cost 2 EUR.\n\nPears",
                "truncated": False,
                "next_character": 32,
                "title": "Prices",
                "headings": ["Fruit"],
                "links": [{"text": "Pears", "url": "https://example.com/pears"}],
                "word_count": 6,
                "page_count": None,
            },
        ),
        ToolExample(
            title="Plain text",
            input={"content": "Two lines\nof text.", "media_type": "text/plain"},
            output={
                "text": "Two lines\nof text.",
                "truncated": False,
                "next_character": 18,
                "title": None,
                "headings": [],
                "links": [],
                "word_count": 4,
                "page_count": None,
            },
        ),
        ToolExample(
            title="A part of a text; another step goes on at next_character",
            input={
                "content": "Two lines\nof text.",
                "media_type": "text/plain",
                "from_character": 4,
                "max_characters": 5,
            },
            output={
                "text": "lines",
                "truncated": True,
                "next_character": 9,
                "title": None,
                "headings": [],
                "links": [],
                "word_count": 4,
                "page_count": None,
            },
        ),
        ToolExample(
            title="What is no PDF fails the step",
            input={"content_base64": "aGVsbG8=", "media_type": PDF},
            failure_code="TOOL_ERROR",
        ),
    ),
)


class TextExtractTool:
    """The tool `text_extract`. A long document is read in a thread, beside the event loop."""

    spec = SPEC

    def __init__(self, children: ChildProcesses) -> None:
        self._children = children

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Extract."""
        if arguments["media_type"] in {PDF, DOCX}:
            return await self._children.run(
                "services.executor.tools.document_text", arguments, limits=LIMITS, context=context
            )
        content = cast("str", arguments["content"])
        is_html = arguments["media_type"] == "text/html"
        if len(content) <= _INLINE_LENGTH:
            return extract(content, is_html=is_html, part=part_of(arguments))
        return await asyncio.to_thread(extract, content, is_html=is_html, part=part_of(arguments))


def extract(content: str, *, is_html: bool, part: Part = WHOLE) -> dict[str, Json]:
    """The output of the tool for one document."""
    return output_of(read_html(content) if is_html else read_plain(content), part=part)
