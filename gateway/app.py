"""The application: routers, the edge around them, and the answers to refusals."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from gateway import feed, health, openapi, pages, republishing
from gateway.accounts import people_routes as people
from gateway.accounts import routes as accounts
from gateway.accounts.people_schemas import CreateUser, UpdateUser
from gateway.accounts.schemas import CreateKey, CreateTenant, RotateKey, UpdateTenant
from gateway.call import Gateway
from gateway.dialects.agents import routes as agents
from gateway.dialects.agents.schemas import CancelTask
from gateway.dialects.runtime import routes as runtime
from gateway.dialects.runtime.many_schemas import BatchRequest
from gateway.dialects.runtime.schemas import ExecuteRequest, ReplayRequest
from gateway.edge import Edge
from gateway.route import Endpoints, Route
from gateway.tools import routes as tools
from gateway.usage import routes as usage

own_router = APIRouter(route_class=Route)
ROUTERS = (
    # Before the tasks, or a router would take the word usage for a task's id.
    usage.router,
    runtime.router,
    agents.router,
    feed.router,
    republishing.router,
    accounts.router,
    people.router,
    tools.router,
    health.router,
    pages.router,
    own_router,
)
BODIES = (
    ExecuteRequest,
    BatchRequest,
    ReplayRequest,
    CancelTask,
    CreateTenant,
    UpdateTenant,
    CreateKey,
    RotateKey,
    CreateUser,
    UpdateUser,
    republishing.ReplayEvents,
)


@own_router.get("/openapi.json", include_in_schema=False)
async def openapi_document(request: Request) -> Response:
    """The OpenAPI document, made when it is first asked for."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = orjson.dumps(document_of(request.app))
    return Response(state.openapi, media_type="application/json")


def create_app(gateway: Gateway, *, max_in_flight: int = 1000) -> FastAPI:
    """The ASGI application over these clients."""
    app = FastAPI(
        title=openapi.TITLE,
        version=gateway.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        # It would export the words of exceptions; the edge has a span of its own.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.gateway = gateway
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(Endpoints, routers=ROUTERS)
    app.add_middleware(Edge, max_in_flight=max_in_flight)
    return app


def document_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the application."""
    return openapi.document(app, bodies=BODIES, answers=_answers())


def _answers() -> set[type[BaseModel]]:
    routes = (route for router in ROUTERS for route in router.routes)
    return {r.response_model for r in routes if isinstance(r, APIRoute) and r.response_model}
