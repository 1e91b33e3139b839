"""Reads the pinned run-time requirements into the package, so that they stand in one place."""

from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


class PinnedRequirements(MetadataHookInterface):
    """Takes requirements/runtime.txt as the dependencies."""

    def update(self, metadata: dict) -> None:
        """Fill `dependencies` with the pinned lines."""
        lines = (
            Path(self.root, "requirements", "runtime.txt").read_text(encoding="utf-8").splitlines()
        )
        metadata["dependencies"] = [
            line.strip() for line in lines if line.strip() and not line.strip().startswith("#")
        ]
