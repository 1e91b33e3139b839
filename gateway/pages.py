"""Addresses that people are pointed to and that Pawl does not serve yet: a page that says so."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from gateway.openapi import PUBLIC
from gateway.route import Route

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
HEADERS = {"Content-Security-Policy": POLICY}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Pawl: {title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto }}
code {{ background: #8883; padding: .1em .3em }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{words}</p>
<ul>
{items}
</ul>
</body>
</html>
"""
_DASHBOARD = (
    "<code>pawl keys</code>, <code>pawl users</code> or <code>/v1/keys</code>: API keys and people",
    "<code>pawl usage</code> or <code>GET /api/v1/tasks/usage</code>: what was used",
    "<code>GET /api/v1/tasks</code>, <code>pawl trace TASK --html out.html</code>: tasks",
)
_BILLING = (
    "<code>pawl usage</code> or <code>GET /api/v1/tasks/usage</code>: what this month has cost",
    "<code>GET /v1/usage?format=csv</code>: the days, for a table",
    "<code>pawl tenants set-tier</code>: the operator of this server changes a tier",
)

router = APIRouter(route_class=Route, include_in_schema=False)


@router.get("/dashboard", response_class=HTMLResponse, openapi_extra=PUBLIC)
async def dashboard(_request: Request) -> HTMLResponse:
    """Says that there is none yet, and what does its work."""
    return _page("There is no dashboard here yet", "Until there is one:", _DASHBOARD)


@router.get("/billing", response_class=HTMLResponse, openapi_extra=PUBLIC)
async def billing(_request: Request) -> HTMLResponse:
    """Says that nothing is billed here, and how to see what was used."""
    words = "This server meters and estimates costs by its own price table, and takes no payments."
    return _page("Nothing is billed here", words, _BILLING)


def _page(title: str, words: str, items: tuple[str, ...]) -> HTMLResponse:
    listed = "\n".join(f"<li>{item}</li>" for item in items)
    return HTMLResponse(_PAGE.format(title=title, words=words, items=listed), headers=HEADERS)
