"""The kind of route that all endpoints are: documented by FastAPI, read by our own readers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from gateway.edge import ROUTE_KEY


class Route(APIRoute):
    """Calls the endpoint with the request and the text of its path parameters.

    FastAPI's reading of parameters and bodies is lenient where Pawl is strict (repeated keys, NaN,
    true as 1), and its writing of answers goes through models; both are left out.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint, with the route's template noted for the metrics."""
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint
        template = self.path_format

        async def handle(request: Request) -> Response:
            request.scope["state"][ROUTE_KEY] = template
            return await endpoint(request, **request.path_params)

        return handle
