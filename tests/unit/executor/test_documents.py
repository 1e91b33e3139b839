"""PDF and DOCX in `text_extract`: what is read, and what hostile documents come to."""

from __future__ import annotations

import asyncio
import io
import zipfile
from typing import Any

import pytest

from libs.core.errors import FailureCode, StepFailed
from libs.core.json_schema import compile_schema
from services.executor.tools.child_process import ChildProcesses
from services.executor.tools.document_text import DOCX, PDF, run, writable
from services.executor.tools.docx_text import MAX_PART_BYTES
from services.executor.tools.pdf_text import MAX_PAGES
from services.executor.tools.text_extract import SPEC, TextExtractTool
from tests import documents
from tests.documents import make_docx, make_pdf, make_plain_pdf, paragraph
from tests.executor_world import make_context


def read(data: bytes, media_type: str = DOCX) -> Any:
    return run({"content_base64": documents.encoded(data), "media_type": media_type})


def refusal(data: bytes, media_type: str = DOCX) -> StepFailed:
    with pytest.raises(StepFailed) as failed:
        read(data, media_type)
    assert failed.value.code == FailureCode.TOOL_ERROR
    return failed.value


async def call(data: bytes, media_type: str) -> Any:
    arguments: dict[str, Any] = {
        "content_base64": documents.encoded(data),
        "media_type": media_type,
    }
    return await TextExtractTool(ChildProcesses()).call(arguments, make_context())


def test_a_pdf_is_read_page_by_page() -> None:
    data = make_pdf(
        "Hello page", "World", title=" A  title ", outline=["One", "Deeper"], urls=["https://a.b/c"]
    )

    found = read(data, PDF)

    assert found == {
        "text": "Hello page\n\nWorld",
        "truncated": False,
        "next_character": 17,
        "title": "A title",
        "headings": ["One", "Deeper"],
        "links": [{"text": "https://a.b/c", "url": "https://a.b/c"}],
        "word_count": 3,
        "page_count": 2,
    }
    assert compile_schema(SPEC.output_schema).accepts(found)


def test_a_pdf_without_a_password_to_open_it_is_read() -> None:
    assert read(documents.make_locked_pdf("open", password=""), PDF)["text"] == "open"


@pytest.mark.parametrize(
    ("data", "text", "headings"),
    [
        (documents.make_looping_outline_pdf(), "x", ["again"]),
        (documents.make_deep_form_pdf(), "", []),
        (documents.make_odd_links_pdf(), "x", []),
    ],
)
def test_loops_and_oddities_in_a_pdf_end(data: bytes, text: str, headings: list[str]) -> None:
    found = read(data, PDF)

    assert (found["text"], found["headings"], found["links"]) == (text, headings, [])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (documents.make_locked_pdf("x", password="secret"), "ENCRYPTED"),
        (b"", "DAMAGED"),
        (b"hello", "DAMAGED"),
        (b"%PDF-1.4 and then nothing", "DAMAGED"),
        (make_pdf("x")[:300], "DAMAGED"),
        (documents.make_looping_pages_pdf(), "DAMAGED"),
        (make_docx(paragraph("x")), "DAMAGED"),
        (make_plain_pdf(*["x"] * (MAX_PAGES + 1)), "DOCUMENT_LIMIT"),
        (documents.make_bomb_pdf(), "DOCUMENT_LIMIT"),
    ],
)
def test_a_pdf_that_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    failed = refusal(data, PDF)

    assert failed.reason == reason
    assert "PDF" in failed.message


def test_a_docx_is_read_with_tables_headings_and_links() -> None:
    linked = '<w:hyperlink r:id="{}"><w:r><w:t>{}</w:t></w:r></w:hyperlink>'
    cells = "".join(f"<w:tc>{paragraph(text)}</w:tc>" for text in ("one", "two"))
    body = (
        paragraph("The  start", style="berschrift1")
        + paragraph("Plain & simple ", style="Standard")
        + paragraph("See ", inside=linked.format("r1", "the page"))
        + paragraph("", inside=linked.format("r2", "no script"))
        + f"<w:tbl><w:tr>{cells}</w:tr></w:tbl>"
        + "<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t>"
        "<w:br/><w:t>c</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
    )

    found = read(make_docx(body, title="On &amp; on"))

    assert found["text"] == (
        "The  start\nPlain & simple\nSee the page\nno script\none\ttwo\na\tb\nc"
    )
    assert (found["title"], found["headings"]) == ("On & on", ["The start"])
    assert found["links"] == [{"text": "the page", "url": "https://example.com/a"}]
    assert found["page_count"] is None
    assert compile_schema(SPEC.output_schema).accepts(found)


def test_tables_in_cells_and_text_boxes_are_read_once() -> None:
    inner = f"<w:tbl><w:tr><w:tc>{paragraph('in')}</w:tc></w:tr></w:tbl>"
    box = (
        "<w:r><mc:AlternateContent xmlns:mc='m'><mc:Choice><w:txbxContent>{0}</w:txbxContent>"
        "</mc:Choice><mc:Fallback><w:txbxContent>{0}</w:txbxContent></mc:Fallback>"
        "</mc:AlternateContent></w:r>"
    )
    body = (
        f"<w:tbl><w:tr><w:tc>{paragraph('out')}{inner}</w:tc><w:tc>{paragraph('x')}</w:tc></w:tr>"
        f"</w:tbl>{paragraph('before', inside=box.format(paragraph('boxed')))}"
    )

    assert read(make_docx(body))["text"] == "out in\tx\nbeforeboxed"


def _with_bomb() -> bytes:
    return make_docx("", parts={"word/document.xml": b" " * (MAX_PART_BYTES + 1)})


def _without_body() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        package.writestr("other.xml", "<a/>")
    return out.getvalue()


def _with_wrong_checksum() -> bytes:
    data = bytearray(make_docx(paragraph("x" * 5000)))
    data[60] ^= 0xFF
    return bytes(data)


def _packed_by_lzma_and_broken() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as package:
        package.writestr("word/document.xml", "x" * 5000)
    data = bytearray(out.getvalue())
    data[70] ^= 0xFF
    return bytes(data)


def _with_a_directory_before_its_start() -> bytes:
    data = bytearray(make_docx(paragraph("x")))
    data[-6:-2] = (2**31).to_bytes(4, "little")
    return bytes(data)


def _in_an_unknown_encoding() -> bytes:
    part = b"<?xml version='1.0' encoding='x-own'?><a/>"
    return make_docx("", parts={"word/document.xml": part})


_LAUGHS = "<!DOCTYPE x [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]>"
_OUTSIDE = "<!DOCTYPE x SYSTEM 'file:///etc/passwd'>"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xd0\xcf\x11\xe0 an old or an encrypted document", "ENCRYPTED"),
        (b"", "DAMAGED"),
        (b"PK\x03\x04 and then nothing", "DAMAGED"),
        (make_plain_pdf("x"), "DAMAGED"),
        (_without_body(), "DAMAGED"),
        (_with_wrong_checksum(), "DAMAGED"),
        (_packed_by_lzma_and_broken(), "DAMAGED"),
        (_with_a_directory_before_its_start(), "DAMAGED"),
        (_in_an_unknown_encoding(), "DAMAGED"),
        (make_docx("<w:p>"), "DAMAGED"),
        (make_docx(paragraph("&b;"), head=_LAUGHS), "DAMAGED"),
        (make_docx(paragraph("x"), head=_OUTSIDE), "DAMAGED"),
        (make_docx("", parts={"docProps/core.xml": _LAUGHS.encode() + b"<a/>"}), "DAMAGED"),
        (make_docx("<w:tbl>" * 400 + "</w:tbl>" * 400), "DOCUMENT_LIMIT"),
        (_with_bomb(), "DOCUMENT_LIMIT"),
        (make_docx(paragraph("x" * 2_000_001)), "DOCUMENT_LIMIT"),
    ],
)
def test_a_docx_that_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    assert refusal(data).reason == reason


def test_control_characters_and_halves_of_characters_are_dropped() -> None:
    data = make_pdf("x", title="a\x00b\x7fc\x1b[2J")

    assert read(data, PDF)["title"] == "abc[2J"
    assert writable("a\ud800\udfffb\tc\n") == "ab\tc\n"


@pytest.mark.parametrize("text", ["?", "YWJj\n!", "YQ", "é"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(StepFailed, match="no base64") as failed:
        run({"content_base64": text, "media_type": PDF})

    assert failed.value.reason == "DAMAGED"


async def test_documents_are_read_alike_in_every_process() -> None:
    data = make_pdf("Hello", "World", title="T", outline=["One"], urls=["https://a.b/c"])

    answers = await asyncio.gather(*(call(data, PDF) for _ in range(3)))

    assert answers[0] == answers[1] == answers[2] == read(data, PDF)


async def test_a_damaged_document_fails_the_step_with_its_reason() -> None:
    with pytest.raises(StepFailed) as failed:
        await call(b"PK\x03\x04", DOCX)

    assert failed.value.reason == "DAMAGED"


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        ({"media_type": "text/html", "content": "x"}, True),
        ({"media_type": PDF, "content_base64": "eA=="}, True),
        ({"media_type": DOCX, "content_base64": "eA=="}, True),
        ({"media_type": PDF, "content": "x"}, False),
        ({"media_type": "text/plain", "content_base64": "eA=="}, False),
        ({"media_type": PDF, "content": "x", "content_base64": "eA=="}, False),
        ({"media_type": "image/png", "content_base64": "eA=="}, False),
        ({"media_type": PDF}, False),
        ({"content": "x"}, False),
    ],
)
def test_each_kind_of_document_comes_in_its_own_member(arguments: Any, *, accepted: bool) -> None:
    assert compile_schema(SPEC.input_schema).accepts(arguments) is accepted
