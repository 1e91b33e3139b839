"""What no route takes: unknown paths, methods that a path does not know, and OPTIONS."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Response
from fastapi.routing import APIRoute

from gateway.errors import no_route, problem
from libs.core.errors import PawlError


class Methods:
    """The methods of every path. Where a path is a route's own, no pattern counts beside it."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        routes = [r for router in routers for r in router.routes if isinstance(r, APIRoute)]
        self._plain: dict[str, set[str]] = {}
        for route in routes:
            if not route.param_convertors:
                self._plain.setdefault(route.path, set()).update(route.methods or ())
        self._patterns = [
            (route.path_regex, route.methods or set()) for route in routes if route.param_convertors
        ]

    def of(self, path: str) -> list[str]:
        """The methods of a path, sorted; HEAD wherever GET is, OPTIONS wherever any is."""
        known = set(self._plain.get(path, ()))
        if not known:
            for pattern, methods in self._patterns:
                if pattern.match(path):
                    known |= methods
        if "GET" in known:
            known.add("HEAD")
        return sorted(known | {"OPTIONS"}) if known else []

    def answer(self, method: str, path: str) -> Response:
        """The answer to a request that no route takes: 204 to OPTIONS, else 404 or 405."""
        known = self.of(path)
        if not known:
            return problem(no_route())
        allow = {"Allow": ", ".join(known)}
        if method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        message = f"this path does not know {method}; it knows {allow['Allow']}"
        return problem(PawlError("method_not_allowed", message), headers=allow)
