"""Which methods a path knows, for 405 and OPTIONS."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from gateway.errors import no_route, problem
from libs.core.errors import PawlError


class Methods:
    """Answers what the router refuses: unknown paths, and methods that a path does not know."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        routes = [r for router in routers for r in router.routes if isinstance(r, APIRoute)]
        self._table = [(route.path_regex, route.methods) for route in routes]

    def of(self, path: str) -> list[str]:
        """The methods of a path, sorted; OPTIONS always, HEAD wherever GET is."""
        known: set[str] = set()
        for pattern, methods in self._table:
            if pattern.match(path):
                known |= methods or set()
        if "GET" in known:
            known.add("HEAD")
        return sorted(known | {"OPTIONS"})

    async def answer(self, request: Request, error: Exception) -> Response:
        """The answer to an HTTPException of the router."""
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for that class alone
        if error.status_code == 404:
            return problem(no_route())
        if error.status_code != 405:
            return problem(PawlError("bad_request", str(error.detail)))
        allow = {"Allow": ", ".join(self.of(request.url.path))}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        message = f"this path does not know {request.method}; it knows {allow['Allow']}"
        return problem(PawlError("method_not_allowed", message), headers=allow)
