"""The page about all tools is what their specs say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from libs.core.tool_spec import ToolExample, ToolSpec
from services.executor.tools.reference import reference_page, shipped_specs

ROOT = Path(__file__).resolve().parents[3]
SPEC = ToolSpec(
    name="odd",
    version="1.0.0",
    description="Takes a | b.",
    input_schema={
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"], "description": "One\nof *two*."}},
        "required": ["kind"],
    },
    output_schema={},
    examples=(ToolExample(title="Nobody can foretell it", input={"kind": "a"}),),
)


def test_the_page_is_fresh() -> None:
    page = (ROOT / "docs" / "tools-reference.md").read_text(encoding="utf-8")

    assert page == reference_page(shipped_specs()), "run: make tool-docs"


def test_the_module_prints_the_page() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.executor.tools.reference"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        encoding="utf-8",
    )

    assert done.stdout == reference_page(shipped_specs())


def test_the_version_of_the_sandbox_names_its_parts() -> None:
    page = reference_page(shipped_specs())

    assert "Version `1.0.0+BACKEND.pyPYTHON.BUILD`; effects: sandbox." in page


def test_cells_of_tables_stay_cells() -> None:
    page = reference_page([SPEC])

    assert r"| `kind` | `" + r'"a" \| "b"' + r"` | required | One of \*two\*. |" in page
    assert "The output is any that fits `{}`." in page


def test_tools_come_by_name_with_their_examples() -> None:
    other = replace(SPEC, name="abc")

    page = reference_page([SPEC, other])

    assert page.index("## abc") < page.index("## odd")
    assert page.count('```json\n{"kind": "a"}\n```') == 2
    assert "gives" not in page
