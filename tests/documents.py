"""PDF and DOCX documents for tests, good and hostile."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from pypdf import PdfReader, PdfWriter
from pypdf.annotations import Link as PdfLink
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    NameObject,
    NumberObject,
    StreamObject,
    TextStringObject,
)

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def encoded(data: bytes) -> str:
    """The data as base64."""
    return base64.b64encode(data).decode()


def make_plain_pdf(*pages: str) -> bytes:
    """A PDF as small as one can be, written by hand: one line of text on every page."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * place} 0 R" for place in range(count))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {count}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for place, text in enumerate(pages):
        drawn = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {5 + 2 * place} 0 R"
            "/Resources<</Font<</F1 3 0 R>>>>>>"
        )
        objects.append(f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream")
    return _pdf_file(objects)


def _pdf_file(objects: Sequence[str]) -> bytes:
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    start = len(out)
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    out += f"xref\n0 {size}\n0000000000 65535 f \n{table}".encode()
    return out + f"trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n".encode()


def make_pdf(
    *pages: str, title: str = "", outline: Sequence[str] = (), urls: Sequence[str] = ()
) -> bytes:
    """A PDF with a title, an outline (each deeper than the one before) and links on page one."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_plain_pdf(*pages))))
    if title:
        writer.add_metadata({"/Title": title})
    parent: Any = None
    for entry in outline:
        parent = writer.add_outline_item(title=entry, page_number=0, parent=parent)
    for url in urls:
        writer.add_annotation(0, PdfLink(rect=(0, 0, 10, 10), url=url))
    return written(writer)


def written(writer: PdfWriter) -> bytes:
    """The bytes of a PDF that is being made."""
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def make_locked_pdf(text: str, *, password: str) -> bytes:
    """A PDF that opens with the password."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_plain_pdf(text))))
    writer.encrypt(password, owner_password="owner", algorithm="AES-256")
    return written(writer)


def make_looping_outline_pdf() -> bytes:
    """A PDF whose outline follows itself."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf("x", outline=["again"]))))
    root: Any = writer._root_object["/Outlines"].get_object()
    entry: Any = root["/First"].get_object()
    entry[NameObject("/Next")] = root.raw_get("/First")
    entry[NameObject("/First")] = root.raw_get("/First")
    return written(writer)


def make_looping_pages_pdf() -> bytes:
    """A PDF whose tree of pages holds itself."""
    return _pdf_file(["<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[2 0 R 2 0 R]/Count 2>>"])


def make_deep_form_pdf() -> bytes:
    """A PDF with a drawing that draws itself."""
    drawn = "q /X Do Q"
    form = (
        "<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>"
        f"/Length {len(drawn)}>>stream\n{drawn}\nendstream"
    )
    page = (
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R"
        "/Resources<</XObject<</X 5 0 R>>>>>>"
    )
    content = f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream"
    pages = "<</Type/Pages/Kids[3 0 R]/Count 1>>"
    return _pdf_file(["<</Type/Catalog/Pages 2 0 R>>", pages, page, content, form])


def make_bomb_pdf() -> bytes:
    """A PDF of a few hundred kilobytes whose page unpacks to 80 MiB."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_plain_pdf("x"))))
    stream = StreamObject()
    stream.set_data(b"q Q " * (20 * 2**20))
    page: Any = writer.pages[0]
    page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    return written(writer)


def make_odd_links_pdf() -> bytes:
    """A PDF whose annotations are not what they should be."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_plain_pdf("x"))))
    page: Any = writer.pages[0]
    script = DictionaryObject({NameObject("/URI"): TextStringObject("javascript:x()")})
    odd = DictionaryObject({NameObject("/A"): NumberObject(3)})
    linked = DictionaryObject({NameObject("/A"): script})
    page[NameObject("/Annots")] = ArrayObject(
        [writer._add_object(part) for part in (NumberObject(1), odd, linked)]
    )
    return written(writer)


def paragraph(text: str, *, style: str = "", inside: str = "") -> str:
    """A paragraph of a DOCX; `inside` is XML after its text."""
    styled = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{styled}<w:r><w:t>{escape(text)}</w:t></w:r>{inside}</w:p>"


def make_docx(
    body: str, *, parts: Mapping[str, bytes] | None = None, head: str = "", title: str = ""
) -> bytes:
    """A DOCX with this body; `parts` are added or take the place of others."""
    document = (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}'
        f'<w:document xmlns:w="{W}" xmlns:r="{R}"><w:body>{body}</w:body></w:document>'
    )
    core = f'<c:core xmlns:c="c" xmlns:dc="d"><dc:title>{title}</dc:title></c:core>'
    styles = (
        f'<w:styles xmlns:w="{W}"><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/>'
        '</w:style><w:style w:styleId="Standard"><w:name w:val="Normal"/></w:style></w:styles>'
    )
    links = (
        '<Relationships><Relationship Id="r1" Target="https://example.com/a" '
        'TargetMode="External"/><Relationship Id="r2" Target="javascript:x()" '
        'TargetMode="External"/><Relationship Id="r3" Target="styles.xml"/></Relationships>'
    )
    held = {
        "word/document.xml": document.encode(),
        "docProps/core.xml": core.encode(),
        "word/styles.xml": styles.encode(),
        "word/_rels/document.xml.rels": links.encode(),
        **(parts or {}),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in held.items():
            package.writestr(name, data)
    return out.getvalue()
