"""PawlError to gRPC status with typed details and back, both through the one table of
libs.core.errors.

A refusal travels as google.rpc.Status with ErrorInfo (reason = CODE, domain pawl.dev), BadRequest
for the
fields and RetryInfo where waiting helps (https://google.aip.dev/193).
"""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from libs.core.errors import ERRORS, FieldError, PawlError

DOMAIN = "pawl.dev"
DETAILS_KEY = "grpc-status-details-bin"

# Details travel in trailers, which gRPC refuses beyond 8 KiB; what is over these bounds is cut.
MAX_MESSAGE_CHARS = 500
MAX_DETAIL_CHARS = 200
MAX_FIELDS_BYTES = 3_000


def to_status(error: PawlError) -> grpc.Status:
    """The gRPC status of a refusal, with its details packed."""
    code = grpc.StatusCode[error.kind.grpc]
    status = Status(code=code.value[0], message=_cut(error.message, MAX_MESSAGE_CHARS))
    status.details.append(_pack(ErrorInfo(reason=error.code.upper(), domain=DOMAIN)))
    if error.errors:
        status.details.append(_pack(_bad_request(error.errors)))
    if error.retry_after_seconds is not None:
        nanos = int(error.retry_after_seconds * 1e9)
        delay = Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
        status.details.append(_pack(RetryInfo(retry_delay=delay)))
    return rpc_status.to_status(status)


def from_rpc_error(error: grpc.aio.AioRpcError) -> PawlError:
    """The refusal that a failed call carries; a bare transport error becomes `unavailable` or the
    like.
    """
    packed = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    if isinstance(packed, bytes):
        refusal = _unpack(Status.FromString(packed))
        if refusal is not None:
            return refusal
    return _bare(error)


def _bare(error: grpc.aio.AioRpcError) -> PawlError:
    said = error.details() or error.code().name
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return PawlError("deadline_exceeded", "a part of Pawl did not answer in time")
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            message = "a part of Pawl cannot be reached"
            return PawlError("unavailable", message, retry_after_seconds=1)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return PawlError("unavailable", f"overloaded: {said}", retry_after_seconds=1)
        case grpc.StatusCode.UNAUTHENTICATED:
            return PawlError("unauthenticated", said)
        case grpc.StatusCode.PERMISSION_DENIED:
            return PawlError("permission_denied", said)
        case grpc.StatusCode.NOT_FOUND:
            return PawlError("not_found", said)
        case _:
            return PawlError("internal", f"{error.code().name}: {said}")


def _unpack(status: Status) -> PawlError | None:
    info, fields, retry = ErrorInfo(), BadRequest(), RetryInfo()
    seen_info = seen_retry = False
    for detail in status.details:
        seen_info |= detail.Unpack(info)
        detail.Unpack(fields)
        seen_retry |= detail.Unpack(retry)
    code = info.reason.lower()
    if not seen_info or info.domain != DOMAIN or code not in ERRORS:
        return None
    delay = retry.retry_delay
    return PawlError(
        code,
        status.message,
        errors=tuple(
            FieldError(field=v.field, code=v.reason.lower(), detail=v.description)
            for v in fields.field_violations
        ),
        retry_after_seconds=delay.seconds + delay.nanos / 1e9 if seen_retry else None,
    )


def _bad_request(errors: tuple[FieldError, ...]) -> BadRequest:
    """The fields that fit; the first one always does."""
    packed = BadRequest()
    for error in errors:
        packed.field_violations.add(
            field=_cut(error.field, MAX_DETAIL_CHARS),
            reason=error.code.upper(),
            description=_cut(error.detail, MAX_DETAIL_CHARS),
        )
        if packed.ByteSize() > MAX_FIELDS_BYTES:
            break
    return packed


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"


def _pack(message: ErrorInfo | BadRequest | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
