"""The tool on its own: install the package, then `pytest examples/iban_check`."""

import asyncio

import pytest
from iban_check import IbanCheckTool

from libs.core.errors import StepFailed
from services.executor.tools.registry import ToolRegistry


def call(iban):
    return asyncio.run(IbanCheckTool().call({"iban": iban}, context=None))


def test_an_executor_can_offer_it():
    assert [ref.label for ref in ToolRegistry([IbanCheckTool()]).refs] == ["iban_check@1.0.0"]


@pytest.mark.parametrize("example", IbanCheckTool.spec.examples)
def test_it_does_what_its_examples_show(example):
    assert call(example.input["iban"]) == example.output


@pytest.mark.parametrize(
    ("iban", "valid"),
    [
        ("GB82 WEST 1234 5698 7654 32", True),
        ("gb82west12345698765432", True),
        ("GB82 WEST 1234 5698 7654 33", False),
    ],
)
def test_check_digits_are_checked(iban, valid):
    assert call(iban) == {"valid": valid, "country": "GB"}


@pytest.mark.parametrize("text", ["", "DE", "12 34", "DE89 3704 0044 0532 0130 00!"])
def test_what_is_no_iban_fails_the_step(text):
    with pytest.raises(StepFailed, match="no IBAN"):
        call(text)
