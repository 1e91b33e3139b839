"""GET /api/v1/tasks/usage and GET /v1/usage: what the caller's account used."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from gateway.answers import json_answer
from gateway.call import open_call
from gateway.openapi import REFUSALS, query_parameter, reads
from gateway.query import text_of
from gateway.response_headers import said
from gateway.route import Route
from gateway.usage import mapping, schemas
from gateway.usage.formats import CSV, media_type_of
from libs.pb.pawl.auth.v1 import auth_service_pb2
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2
from libs.rpc.client import caller_token

router = APIRouter(route_class=Route, tags=["Accounts"])

MONTH = query_parameter(
    "month",
    "The month to count, YYYY-MM in UTC; the current one when absent.",
    {"type": "string", "pattern": "^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])$"},
)
_DAY = {"type": "string", "format": "date"}
FROM = query_parameter(
    "from", "The first day, in UTC; the first of the current month when absent.", _DAY
)
TO = query_parameter(
    "to", "The last day, at most 366 days later; today, or a year of days, when absent.", _DAY
)
FORMAT = query_parameter(
    "format", "Wins over the Accept header.", {"type": "string", "enum": ["json", "csv"]}
)


@router.get(
    "/api/v1/tasks/usage",
    summary="What the account used this month, and what it may use",
    response_model=schemas.AccountUsage,
    responses=REFUSALS,
    openapi_extra=reads(MONTH),
)
async def get_usage(request: Request) -> Response:
    """The account of the key, its limits, its sums of a month, and how many tasks are active."""
    call = await open_call(request, query=("month",))
    asked = auth_service_pb2.GetUsageRequest(month=text_of(call.query, "month"))
    with caller_token(call.token), mapping.in_our_words():
        said, active = await asyncio.gather(
            call.clients.auth.GetUsage(asked),
            call.clients.scheduler.CountTasks(scheduler_service_pb2.CountTasksRequest()),
        )
    return json_answer(mapping.account_record(said, active))


@router.get(
    "/v1/usage",
    summary="What the account used day by day",
    response_model=schemas.UsageByDay,
    responses=REFUSALS
    | {
        200: {
            "description": "The days, as JSON or as CSV (RFC 4180) with a header row.",
            "headers": said("Vary", "Content-Disposition"),
            "content": {
                CSV: {
                    "schema": {"type": "string"},
                    "example": "day,requests,tasks,steps,sandbox_seconds,tokens,cost_usd\r\n"
                    "2026-02-27,412,96,288,71.402,0,0.0430804\r\n",
                }
            },
        }
    },
    openapi_extra=reads(FROM, TO, FORMAT),
)
async def list_usage(request: Request) -> Response:
    """Every day, with zeros where nothing was used. With `format=csv` or `Accept: text/csv` as a
    table to open in a spreadsheet.
    """
    call = await open_call(request, query=("from", "to", "format"))
    accept = ",".join(request.headers.getlist("accept"))
    media_type = media_type_of(call.query.get("format"), accept=accept)
    asked = auth_service_pb2.ListUsageRequest(
        first_day=text_of(call.query, "from"), last_day=text_of(call.query, "to")
    )
    with caller_token(call.token), mapping.in_our_words():
        days = (await call.clients.auth.ListUsage(asked)).days
    if media_type != CSV:
        return json_answer(mapping.days_record(days), headers={"Vary": "Accept"})
    name = f"pawl-usage-{days[0].day}-{days[-1].day}.csv"
    headers = {
        "Cache-Control": "no-store",
        "Vary": "Accept",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    return Response(mapping.days_table(days), headers=headers, media_type=f"{CSV}; header=present")
