"""XML as a stream of events, without document types, entities and endless depth."""

from __future__ import annotations

from collections.abc import Mapping
from xml.parsers import expat

from services.executor.tools.document_text import damaged, too_large

MAX_DEPTH = 300


class XmlReader:
    """Takes the events of one document; names come without their namespace's prefix."""

    def opened(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""

    def closed(self, name: str) -> None:
        """An element ends."""

    def text(self, data: str) -> None:
        """A piece of text."""


def read_xml(data: bytes, reader: XmlReader) -> None:
    """Feed a document to a reader. Raises StepFailed, and ExpatError for what is not XML."""
    parser = expat.ParserCreate()
    depth = 0

    def opened(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise too_large(f"the XML is nested deeper than {MAX_DEPTH}")
        reader.opened(_local(name), {_local(key): text for key, text in attributes.items()})

    def closed(name: str) -> None:
        nonlocal depth
        depth -= 1
        reader.closed(_local(name))

    parser.StartElementHandler = opened
    parser.EndElementHandler = closed
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
    except (LookupError, ValueError) as error:
        raise damaged("the XML is in an encoding that is not read; UTF-8 and UTF-16 are") from error


def _refuse(*_: object) -> None:
    raise damaged("the XML declares a document type or entities, which are not read")


def _local(name: str) -> str:
    return name.rpartition(":")[2]
