"""text_summarize and text_extract: what they pick, and that hostile text costs linear time."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

from libs.core.canonical import Json
from libs.core.json_schema import compile_schema
from services.executor.step_validation import MAX_OUTPUT_BYTES, output_text
from services.executor.tools.child_process import ChildProcesses
from services.executor.tools.page_text import MAX_LINKS, read_html
from services.executor.tools.sentences import MAX_SENTENCE_LENGTH, split_sentences
from services.executor.tools.text_extract import SPEC, TextExtractTool, extract
from services.executor.tools.text_part import OUTPUT_BYTES, Part
from services.executor.tools.text_summarize import TextSummarizeTool, summarize
from services.executor.tools.words import count_words, terms
from tests.executor_world import make_context

TEXT = (
    "Pawl runs tasks. Dr. Smith said that a pawl lets a wheel turn one way only, e.g. in a "
    "ratchet. Every task is planned before it runs! Yes, every step of a task is recorded before "
    "and after it runs. The weather is nice... J. Doe agrees."
)
# Generous for a busy machine; what is quadratic takes minutes at these lengths.
SECONDS = 8.0


def test_split_sentences_knows_abbreviations_initials_and_numbers() -> None:
    text = "Dr. Smith paid 3.50 e.g. here. J. Doe left! Really?! Yes\u2026 \u201cSo.\u201d End"

    assert split_sentences(text) == [
        "Dr. Smith paid 3.50 e.g. here.",
        "J. Doe left!",
        "Really?!",
        "Yes\u2026",
        "\u201cSo.\u201d",
        "End",
    ]


def test_split_sentences_ends_at_paragraphs_and_in_other_scripts() -> None:
    assert split_sentences("Title\n\nBody of\nit") == ["Title", "Body of it"]
    assert split_sentences("日本語です。短い！") == ["日本語です。", "短い！"]
    assert split_sentences("पहला वाक्य। दूसरा") == ["पहला वाक्य।", "दूसरा"]


def test_split_sentences_cuts_a_sentence_without_end() -> None:
    pieces = split_sentences("word " * 1000)

    assert max(map(len, pieces)) <= MAX_SENTENCE_LENGTH
    assert sum(piece.count("word") for piece in pieces) == 1000


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("one two", 2),
        ("don't l\u2019été", 2),
        ("e\u0301te\u0301 हिन्दी", 2),
        ("漢字abc", 3),
        ("- . !", 0),
        ("3.5", 2),
    ],
)
def test_count_words_in_any_script(text: str, count: int) -> None:
    assert count_words(text) == count


def test_terms_fold_case_and_pair_characters_of_unspaced_scripts() -> None:
    assert list(terms("Straße DON'T 日本語")) == ["strasse", "don't", "日本", "本語"]


def test_summarize_picks_weighty_sentences_in_order() -> None:
    found = summarize(TEXT, max_sentences=2)

    sentences = found["sentences"]
    assert isinstance(sentences, list)
    assert len(sentences) == 2
    assert all(TEXT.index(str(a)) < TEXT.index(str(b)) for a, b in pairwise(sentences))
    assert found["summary"] == " ".join(map(str, sentences))
    assert found["word_count"] == 48


def test_summarize_prefers_the_topic() -> None:
    assert summarize(TEXT, max_sentences=1, topic="the Weather")["sentences"] == [
        "The weather is nice..."
    ]
    assert summarize(TEXT, max_sentences=1, topic="unknown") == summarize(TEXT, max_sentences=1)


def test_summarize_says_a_repeated_sentence_once() -> None:
    assert summarize("B two. A one. B two. C three.")["sentences"] == [
        "B two.",
        "A one.",
        "C three.",
    ]


@pytest.mark.parametrize("text", ["   ", "_ - .", "..."])
def test_summarize_of_nothing_is_empty(text: str) -> None:
    assert summarize(text) == {"summary": "", "sentences": [], "key_terms": [], "word_count": 0}


async def test_summarize_tool_gives_the_same_in_a_thread_as_inline() -> None:
    long_text = TEXT * 20
    arguments: dict[str, Json] = {"text": long_text, "max_sentences": 2, "topic": "pawl"}

    output = await TextSummarizeTool().call(arguments, make_context())

    assert output == summarize(long_text, max_sentences=2, topic="pawl")


PAGE = """<!DOCTYPE html><html><head><title>My &amp; Page</title><style>p{}</style>
<script>var x = "<p>no</p>";</script></head><body><h1>Head <em>one</em></h1>
<p>Hello&nbsp;<b>world</b>, see <a href="/a?x=1&copy=2&amp;y=3">the  link</a>.
<p>Second<br>line <!-- no <p>x</p> --> 1 < 2
<ul><li>one<li>two</ul><table><tr><td>a</td><td>b</td></tr></table><pre>  code
    more</pre><a href="javascript:alert(1)">bad</a> <a href='#x'>frag</a><h2>Two</h2>
<a href=mailto:x@y.z>mail</a><template><p>t</p></template> end &lt;b&gt;</body>"""


def test_extract_reads_a_page() -> None:
    found = extract(PAGE, is_html=True)

    assert found == {
        "text": "Head one\n\nHello world, see the link.\n\nSecond\nline 1 < 2\n\n"
        "one\ntwo\n\na b\n\n  code\n    more\n\nbad frag\n\nTwo\n\nmail end <b>",
        "title": "My & Page",
        "headings": ["Head one", "Two"],
        "links": [
            {"text": "the link", "url": "/a?x=1&copy=2&y=3"},
            {"text": "mail", "url": "mailto:x@y.z"},
        ],
        "truncated": False,
        "next_character": 115,
        "word_count": 23,
        "page_count": None,
    }


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("<", "<"),
        ("1<2>3", "1<2>3"),
        ("a<b", "a"),
        ("<a href='x", ""),
        ("<!-- cut", ""),
        ("<!-->x", "x"),
        ("<!--->y", "y"),
        ("</>z", "z"),
        ("<//b>c", "c"),
        ("<?php x ?>y", "y"),
        ("<script>x", ""),
        ("<script></scriptx></SCRIPT >t", "t"),
        ("<p/>a<br/>b<div>c<p>d", "a\nb\nc\n\nd"),
        ("&#0;&#xd800;&nosuch;&amp", "\ufffd\ufffd&nosuch;&"),
        ("<textarea><b>raw</b></textarea>", "<b>raw</b>"),
    ],
)
def test_extract_reads_broken_markup_as_browsers_do(html: str, text: str) -> None:
    assert extract(html, is_html=True)["text"] == text


def test_extract_without_a_title_says_null() -> None:
    assert extract("<title> </title>x", is_html=True)["title"] is None
    assert extract("x", is_html=False)["title"] is None


def test_extract_reads_plain_text_with_its_addresses() -> None:
    found = extract("See https://example.com/x, or (http://a.b/c).\r\nLine  \n\n", is_html=False)

    assert found["text"] == "See https://example.com/x, or (http://a.b/c).\nLine"
    assert found["links"] == [
        {"text": "https://example.com/x", "url": "https://example.com/x"},
        {"text": "http://a.b/c", "url": "http://a.b/c"},
    ]


async def test_extract_tool_reads_a_long_page_in_a_thread() -> None:
    content = "<p>hello world</p>" * 1000
    arguments: dict[str, Json] = {"content": content, "media_type": "text/html"}

    output = await TextExtractTool(ChildProcesses()).call(arguments, make_context())

    assert output == extract(content, is_html=True)


@pytest.mark.parametrize("unit", ["x", '"', "\x01", "é", "😀"])
def test_extract_gives_out_what_an_output_holds_and_where_to_go_on(unit: str) -> None:
    html = f"<title>{unit * 3000}</title><pre>" + unit * 300_000
    expected = read_html(html).text

    parts, at, is_more = [], 0, True
    while is_more:
        found: Any = extract(html, is_html=True, part=Part(start=at))
        output_text(found)
        assert compile_schema(SPEC.output_schema).accepts(found)
        parts.append(found["text"])
        at, is_more = found["next_character"], found["truncated"]

    assert len(parts) > 1
    assert "".join(parts) == expected


def test_extract_fits_however_long_headings_and_links_are() -> None:
    links = "".join(f"<a href='http://a.b/{'c' * 2000}'>{n}</a>" for n in range(500))
    html = f"{links}<h1>{'h' * 20_000}</h1>" + f"<h2>{'i' * 20_000}</h2>" * 5 + "x" * 300_000

    found: Any = extract(html, is_html=True)

    output_text(found)
    assert len(found["headings"]) == 1
    assert 0 < len(found["links"]) < 500
    assert found["truncated"] is True


def test_extract_beyond_the_end_is_empty() -> None:
    found = extract("abc", is_html=False, part=Part(start=10, most=5))

    assert (found["text"], found["truncated"], found["next_character"]) == ("", False, 3)


def test_the_room_of_a_part_is_that_of_an_output() -> None:
    assert OUTPUT_BYTES == MAX_OUTPUT_BYTES


HOSTILE_UNITS = ["<div>", "<b><p>", "<ul><li>", "<", "</", "<!", "<!--", "&abcdefgh", " "]
HOSTILE_UNITS += ["<a x='", '<a x="y', "<a href=x>", "<a ====", "<p a=1 b='2'>x"]
HOSTILE_UNITS += ["<title>", "<script>", "<h1>x", "<pre>\n"]


@pytest.mark.parametrize("unit", HOSTILE_UNITS)
def test_extract_takes_linear_time_on_hostile_markup(unit: str) -> None:
    html = (unit * (300_000 // len(unit) + 1))[:300_000]
    began = time.perf_counter()

    found = extract(html, is_html=True)

    assert time.perf_counter() - began < SECONDS
    links = found["links"]
    assert isinstance(links, list)
    assert len(links) <= MAX_LINKS


@pytest.mark.parametrize("many", ["<a " + " ".join(f"a{n}=1" for n in range(30_000)) + ">"])
def test_extract_takes_linear_time_on_many_attributes(many: str) -> None:
    began = time.perf_counter()

    extract(many, is_html=True)

    assert time.perf_counter() - began < SECONDS


@pytest.mark.parametrize(
    "unit",
    [".", ". ", "a", "a'", "\n", "\n   ", "ab. ", "漢字", "漢。", "e\u0301", '."', "_", "İ. "],
)
def test_summarize_takes_linear_time_on_hostile_text(unit: str) -> None:
    text = (unit * (200_000 // len(unit) + 1))[:200_000]
    began = time.perf_counter()

    summarize(text, max_sentences=20)

    assert time.perf_counter() - began < SECONDS
