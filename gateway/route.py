"""The kind of route that all endpoints are: documented by FastAPI, called and read by our own."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.admitted import admitted_of
from gateway.edge import ROUTE_KEY
from gateway.errors import problem
from gateway.methods import Methods
from gateway.refusals import overloaded
from gateway.shares import NoRoom
from libs.core.errors import PawlError


class Route(APIRoute):
    """An endpoint that takes the request and the text of its path parameters; see `Endpoints`.

    FastAPI's reading of parameters and bodies is lenient where Pawl is strict (repeated keys, NaN,
    true as 1), its writing of answers goes through models, and its way from a path to the endpoint
    costs more than all the rest of a request; it knows these routes for the documents only.
    """


class Endpoints:
    """Calls the endpoint of a request, and answers what no route takes.

    The application within, FastAPI's own, is never asked.
    """

    def __init__(self, _app: ASGIApp, *, routers: Iterable[APIRouter]) -> None:
        routers = tuple(routers)
        self._methods = Methods(routers)
        routes = [r for router in routers for r in router.routes if isinstance(r, Route)]
        self._plain: dict[str, dict[str, Route]] = {}
        for route in routes:
            if not route.param_convertors:
                by_method = self._plain.setdefault(route.path, {})
                by_method.update(dict.fromkeys(route.methods or (), route))
        self._patterns = [route for route in routes if route.param_convertors]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route, parameters = self._find(scope["method"], scope["path"])
        if route is None:
            await self._methods.answer(scope["method"], scope["path"])(scope, receive, send)
            return
        # For the metrics: a path itself would be a label without bounds.
        scope["state"][ROUTE_KEY] = route.path_format
        response = await _answer(route, Request(scope, receive, send), parameters)
        await response(scope, receive, send)

    def _find(self, method: str, path: str) -> tuple[Route | None, dict[str, str]]:
        by_method = self._plain.get(path)
        if by_method is not None:
            return by_method.get(method), {}
        for route in self._patterns:
            if method in (route.methods or ()) and (found := route.path_regex.match(path)):
                return route, found.groupdict()
        return None, {}


async def _answer(route: Route, request: Request, parameters: dict[str, str]) -> Response:
    """The endpoint's answer, or the one to its refusal, when there is room to send it."""
    try:
        response: Response = await route.endpoint(request, **parameters)
        await _hold(request, response)
    except NoRoom as error:
        return problem(error, headers={"Connection": "close"})
    except PawlError as error:
        # A caller has no token that could expire: the one made for this request was too slow.
        return problem(overloaded() if error.code == "token_expired" else error)
    return response


async def _hold(request: Request, response: Response) -> None:
    """Count a large answer as its tenant's while it is sent, which a slow reader can make long.

    PawlError unavailable (503) when there is no room. But what was done has to be told.
    """
    admitted = admitted_of(request)
    body = getattr(response, "body", b"")  # streams have none
    if admitted is None:
        return
    try:
        await admitted.hold_answer(len(body))
    except NoRoom:
        if request.method == "GET":
            raise
