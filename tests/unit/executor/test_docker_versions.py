"""Which releases of runc are known to let code out."""

from __future__ import annotations

import pytest

from services.executor.sandbox.docker_versions import known_holes

OF_2024 = "CVE-2024-21626"
OF_2025 = "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881"


@pytest.mark.parametrize(
    ("runc", "holes"),
    [
        ("1.1.5+ds1", [OF_2024, OF_2025]),
        ("1.1.11", [OF_2024, OF_2025]),
        ("1.1.12", [OF_2025]),
        ("1.1.15", [OF_2025]),
        ("1.2.7", [OF_2025]),
        ("1.2.8", []),
        ("1.3.2", [OF_2025]),
        ("v1.3.3", []),
        ("1.4.0", []),
        ("2.0.0", []),
        ("", []),
        ("unknown", []),
    ],
)
def test_holes_are_known_by_release(runc: str, holes: list[str]) -> None:
    assert known_holes(runc) == holes
