"""`text_extract`: the readable text of a plain text or an HTML document, with title, headings and
links.
"""

from __future__ import annotations

import asyncio
from typing import cast

from libs.core.canonical import Json
from libs.core.tool_spec import ToolExample, ToolSpec
from services.executor.tools.page_text import (
    MAX_HEADINGS,
    MAX_LINKS,
    MAX_URL_LENGTH,
    read_html,
    read_plain,
)
from services.executor.tools.tool import ToolContext
from services.executor.tools.words import count_words

MAX_CONTENT_LENGTH = 1_000_000
_INLINE_LENGTH = 5_000

SPEC = ToolSpec(
    name="text_extract",
    version="1.0.0",
    description=(
        "Takes the readable text, title, headings (the first 500) and links (the first 1000) out "
        "of a plain text or HTML document; scripts and styles are dropped."
    ),
    input_schema={
        "type": "object",
        "properties": {
            "content": {"type": "string", "maxLength": MAX_CONTENT_LENGTH},
            "media_type": {"enum": ["text/plain", "text/html"]},
        },
        "required": ["content", "media_type"],
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "title": {"type": ["string", "null"]},
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
            "word_count": {"type": "integer", "minimum": 0},
        },
        "required": ["text", "title", "headings", "links", "word_count"],
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
                "title": "Prices",
                "headings": ["Fruit"],
                "links": [{"text": "Pears", "url": "https://example.com/pears"}],
                "word_count": 6,
            },
        ),
        ToolExample(
            title="Plain text",
            input={"content": "Two lines\nof text.", "media_type": "text/plain"},
            output={
                "text": "Two lines\nof text.",
                "title": None,
                "headings": [],
                "links": [],
                "word_count": 4,
            },
        ),
    ),
)


class TextExtractTool:
    """The tool `text_extract`. A long document is read in a thread, beside the event loop."""

    spec = SPEC

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Extract."""
        del context
        content = cast("str", arguments["content"])
        is_html = arguments["media_type"] == "text/html"
        if len(content) <= _INLINE_LENGTH:
            return extract(content, is_html=is_html)
        return await asyncio.to_thread(extract, content, is_html=is_html)


def extract(content: str, *, is_html: bool) -> dict[str, Json]:
    """The output of the tool for one document."""
    page = read_html(content) if is_html else read_plain(content)
    return {
        "text": page.text,
        "title": page.title,
        "headings": list(page.headings),
        "links": [{"text": link.text, "url": link.url} for link in page.links],
        "word_count": count_words(page.text),
    }
