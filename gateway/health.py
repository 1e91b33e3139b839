"""/healthz: this process answers. /readyz: so do the services behind it."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from gateway.answers import json_answer
from gateway.call import gateway_of
from gateway.clients import unready
from gateway.openapi import PUBLIC, problem_response
from gateway.route import Route
from libs.core.errors import FieldError, PawlError

router = APIRouter(route_class=Route, tags=["Health"])


class Healthy(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Every service serves."""

    status: Literal["ready"]
    services: dict[str, Literal["ready"]]


@router.get("/healthz", summary="Alive?", response_model=Healthy, openapi_extra=PUBLIC)
async def healthz(_request: Request) -> Response:
    """Says only that this process answers."""
    return json_answer({"status": "ok"})


@router.get(
    "/readyz",
    summary="Ready?",
    response_model=Ready,
    responses={503: problem_response(503)},
    openapi_extra=PUBLIC,
)
async def readyz(request: Request) -> Response:
    """Asks every service; 503 names those that do not serve, and says why."""
    clients = gateway_of(request).clients
    reasons = await unready(clients)
    if reasons:
        raise PawlError(
            "unavailable",
            f"not ready: {', '.join(reasons)}",
            errors=tuple(
                FieldError(field=name, code="unavailable", detail=reason)
                for name, reason in reasons.items()
            ),
            retry_after_seconds=1,
        )
    return json_answer({"status": "ready", "services": dict.fromkeys(clients.health, "ready")})
