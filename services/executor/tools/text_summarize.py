"""`text_summarize`: the sentences of a text that say most about it, word for word and in their
order.

Extractive and without a model: a sentence is worth what its terms are worth, a term what its
frequency is; terms of the topic count more, and terms that a chosen sentence has already covered
count less. Equal texts give equal summaries; ties go to the earlier sentence.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from libs.core.canonical import Json
from libs.core.tool_spec import ToolExample, ToolSpec
from services.executor.tools.sentences import split_sentences
from services.executor.tools.stop_words import STOP_WORDS
from services.executor.tools.tool import ToolContext
from services.executor.tools.words import count_words, is_unspaced, terms

MAX_TEXT_LENGTH = 200_000
KEY_TERMS = 8
_INLINE_LENGTH = 2_000
# A term of the topic is worth this many of the most frequent terms.
_TOPIC_WEIGHT = 10.0
_COVERED_WEIGHT = 0.25
# A short sentence would win by density alone; it is judged as if it had at least this many terms.
_LEAST_TERMS = 8

SPEC = ToolSpec(
    name="text_summarize",
    version="1.0.0",
    description="Picks the sentences that say most about a text, and its key terms; no model.",
    input_schema={
        "type": "object",
        "properties": {
            "text": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH},
            "max_sentences": {"type": "integer", "minimum": 1, "maximum": 20, "default": 3},
            "topic": {"type": "string", "maxLength": 1000},
        },
        "required": ["text"],
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {
            "summary": {"type": "string"},
            "sentences": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
            "key_terms": {"type": "array", "items": {"type": "string"}, "maxItems": KEY_TERMS},
            "word_count": {"type": "integer", "minimum": 0},
        },
        "required": ["summary", "sentences", "key_terms", "word_count"],
        "additionalProperties": False,
    },
    examples=(
        ToolExample(
            title="The sentence that says most",
            input={
                "text": (
                    "Pawl plans a task before it runs. A plan has steps. Each step of a plan calls "
                    "one tool, and the trace shows each step. The weather was fine."
                ),
                "max_sentences": 1,
            },
            output={
                "summary": "Each step of a plan calls one tool, and the trace shows each step.",
                "sentences": ["Each step of a plan calls one tool, and the trace shows each step."],
                "key_terms": ["plan", "step", "pawl", "plans", "task", "runs", "steps", "calls"],
                "word_count": 29,
            },
        ),
        ToolExample(
            title="With a topic",
            input={
                "text": "Bees make honey. Cats sleep all day. Bees need flowers.",
                "max_sentences": 1,
                "topic": "cats",
            },
            output={
                "summary": "Cats sleep all day.",
                "sentences": ["Cats sleep all day."],
                "key_terms": ["bees", "make", "honey", "cats", "sleep", "day", "need", "flowers"],
                "word_count": 10,
            },
        ),
    ),
)


class TextSummarizeTool:
    """The tool `text_summarize`. A long text is summarized in a thread, beside the event loop."""

    spec = SPEC

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Summarize."""
        del context
        text = cast("str", arguments["text"])
        count = int(cast("int", arguments.get("max_sentences", 3)))
        topic = cast("str", arguments.get("topic", ""))
        if len(text) <= _INLINE_LENGTH:
            return summarize(text, max_sentences=count, topic=topic)
        return await asyncio.to_thread(summarize, text, max_sentences=count, topic=topic)


def summarize(text: str, *, max_sentences: int = 3, topic: str = "") -> dict[str, Json]:
    """The output of the tool for one text. A text without words has an empty summary."""
    sentences = [
        _Sentence(piece, _weighty(found))
        for piece in split_sentences(text)
        if (found := list(terms(piece)))
    ]
    frequency = Counter(term for sentence in sentences for term in sentence.terms)
    # Counting keeps the order of first occurrence, and sorting is stable: that breaks the ties.
    ranked = sorted(frequency, key=lambda term: -frequency[term])
    weights = {term: float(times) for term, times in frequency.items()}
    for term in set(_weighty(terms(topic))) & weights.keys():
        weights[term] += _TOPIC_WEIGHT * max(frequency.values())
    # A sentence that stands there twice is a candidate once, though its terms count twice.
    distinct = list({sentence.text: sentence for sentence in sentences}.values())
    chosen = [distinct[place].text for place in sorted(_choose(distinct, weights, max_sentences))]
    return {
        "summary": _joined(chosen),
        "sentences": chosen,
        "key_terms": ranked[:KEY_TERMS],
        "word_count": count_words(text),
    }


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    terms: list[str]


def _weighty(found: Iterable[str]) -> list[str]:
    return [
        term
        for term in found
        if term not in STOP_WORDS
        and (len(term) > 2 or is_unspaced(term[0]))
        and not term.isdecimal()
    ]


def _choose(sentences: list[_Sentence], weights: dict[str, float], count: int) -> list[int]:
    """Places of the best sentences. Weights only sink, so an old score is an upper bound."""
    heap = [(-_score(sentence, weights), place) for place, sentence in enumerate(sentences)]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < count:
        _, place = heapq.heappop(heap)
        now = (-_score(sentences[place], weights), place)
        if heap and heap[0] < now:
            heapq.heappush(heap, now)
            continue
        chosen.append(place)
        for term in set(sentences[place].terms):
            weights[term] *= _COVERED_WEIGHT
    return chosen


def _score(sentence: _Sentence, weights: dict[str, float]) -> float:
    # The exact sum: that of a plain loop would depend on the order of a set, and so on the hash
    # seed.
    distinct = set(sentence.terms)
    return math.fsum(weights[term] for term in distinct) / max(len(distinct), _LEAST_TERMS)


def _joined(sentences: list[str]) -> str:
    """One text; no blank after a sentence of a script that is written without."""
    text = ""
    for sentence in sentences:
        text += sentence if not text or is_unspaced(sentence[0]) else f" {sentence}"
    return text
