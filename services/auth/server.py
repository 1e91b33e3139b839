"""The gRPC face of auth: convert, call the use case, convert."""

from __future__ import annotations

from dataclasses import dataclass

from libs.db.outage import database_refusal
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.pb.pawl.auth.v1 import auth_service_pb2_grpc as pb_grpc
from libs.rpc.context import Service, current, current_caller
from libs.rpc.server import Context, RpcServer
from libs.rpc.tls import TlsFiles
from libs.rpc.tokens import TokenVerifier
from services.auth import convert
from services.auth.access import ACCESS, SERVICE
from services.auth.granting import Granting
from services.auth.metering import Metering
from services.auth.permits import check_asked
from services.auth.service import Keys
from services.auth.tenants import Tenants


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """What the servicer offers."""

    keys: Keys
    tenants: Tenants
    metering: Metering
    granting: Granting


class AuthServicer(pb_grpc.AuthServiceServicer):
    """One method per RPC; each promises what the proto says."""

    def __init__(self, use_cases: UseCases) -> None:
        self._do = use_cases

    async def Authenticate(
        self, request: pb.AuthenticateRequest, _: Context
    ) -> pb.AuthenticateResponse:
        """Exchange a key for a caller token, and take permits."""
        is_gateway = isinstance(current().principal, Service)
        asked = check_asked(convert.permits_asked_from_proto(request), is_gateway=is_gateway)
        answer = await self._do.keys.authenticate(request.api_key, asked)
        return convert.authenticated_to_proto(answer)

    async def ReturnPermits(
        self, request: pb.ReturnPermitsRequest, _: Context
    ) -> pb.ReturnPermitsResponse:
        """Give back what was not used."""
        await self._do.granting.give_back(convert.permits_returned_from_proto(request))
        return pb.ReturnPermitsResponse()

    async def CreateTenant(
        self, request: pb.CreateTenantRequest, _: Context
    ) -> pb.CreateTenantResponse:
        """Make a tenant."""
        wanted = convert.tenant_wanted_from_proto(request)
        tenant = await self._do.tenants.create(current_caller(), wanted)
        return pb.CreateTenantResponse(tenant=convert.tenant_to_proto(tenant))

    async def ListTenants(
        self, request: pb.ListTenantsRequest, _: Context
    ) -> pb.ListTenantsResponse:
        """List tenants."""
        page = await self._do.tenants.list(
            current_caller(), page_size=request.page_size, page_token=request.page_token
        )
        return convert.tenant_page_to_proto(page)

    async def CreateKey(self, request: pb.CreateKeyRequest, _: Context) -> pb.CreateKeyResponse:
        """Make a key."""
        wanted = convert.key_wanted_from_proto(request)
        made = await self._do.keys.create(current_caller(), wanted)
        return pb.CreateKeyResponse(key=convert.key_to_proto(made.key), secret=made.secret)

    async def ListKeys(self, request: pb.ListKeysRequest, _: Context) -> pb.ListKeysResponse:
        """List a tenant's keys."""
        page = await self._do.keys.list(
            current_caller(),
            tenant=request.tenant,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return convert.key_page_to_proto(page)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, _: Context) -> pb.RevokeKeyResponse:
        """Revoke a key."""
        key = await self._do.keys.revoke(current_caller(), request.key_id)
        return pb.RevokeKeyResponse(key=convert.key_to_proto(key))

    async def GetUsage(self, request: pb.GetUsageRequest, _: Context) -> pb.GetUsageResponse:
        """Read a month's use."""
        usage = await self._do.metering.usage(current_caller(), month=request.month)
        return pb.GetUsageResponse(usage=convert.usage_to_proto(usage))


def make_server(
    use_cases: UseCases,
    *,
    address: str,
    verifier: TokenVerifier,
    tls: TlsFiles | None = None,
) -> RpcServer:
    """The server of auth, ready to start at `address` (host:port)."""
    server = RpcServer(
        service="auth",
        address=address,
        verifier=verifier,
        access=ACCESS,
        translate=database_refusal,
        tls=tls,
    )
    server.add(pb_grpc.add_AuthServiceServicer_to_server, AuthServicer(use_cases), SERVICE)
    return server
