"""`iban_check`: whether the check digits of an IBAN are right."""

import re

from libs.core.errors import FailureCode, StepFailed
from libs.core.tool_spec import ToolExample, ToolSpec


class IbanCheckTool:
    spec = ToolSpec(
        name="iban_check",
        version="1.0.0",
        description="Says whether the check digits of an IBAN are right.",
        input_schema={
            "type": "object",
            "properties": {"iban": {"type": "string", "maxLength": 64}},
            "required": ["iban"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {"valid": {"type": "boolean"}, "country": {"type": "string"}},
            "required": ["valid", "country"],
            "additionalProperties": False,
        },
        examples=(
            ToolExample(
                title="An IBAN as it stands on a letter",
                input={"iban": "DE89 3704 0044 0532 0130 00"},
                output={"valid": True, "country": "DE"},
            ),
        ),
    )

    async def call(self, arguments, context):
        iban = arguments["iban"].replace(" ", "").upper()
        if not re.fullmatch("[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", iban):
            raise StepFailed(FailureCode.TOOL_ERROR, "that is no IBAN", reason="NOT_AN_IBAN")
        digits = "".join(str(int(character, 36)) for character in iban[4:] + iban[:4])
        return {"valid": int(digits) % 97 == 1, "country": iban[:2]}
