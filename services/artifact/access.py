"""Who may call which method of artifact."""

from __future__ import annotations

from libs.rpc.server import CALLER, Access

SERVICE = "pawl.artifact.v1.ArtifactService"

ACCESS: Access = {
    f"/{SERVICE}/PutArtifact": frozenset({"executor"}),
    f"/{SERVICE}/GetArtifact": frozenset({CALLER}),
    f"/{SERVICE}/ListArtifacts": frozenset({CALLER}),
}
