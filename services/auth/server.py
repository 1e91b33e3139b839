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
from services.auth.audit import Audit
from services.auth.granting import Granting
from services.auth.metering import Metering
from services.auth.permits import check_asked
from services.auth.rotation import Rotations
from services.auth.service import Keys
from services.auth.tenants import Tenants
from services.auth.users import Users


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """What the servicer offers."""

    keys: Keys
    rotations: Rotations
    tenants: Tenants
    users: Users
    audit: Audit
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

    async def GetTenant(self, request: pb.GetTenantRequest, _: Context) -> pb.GetTenantResponse:
        """Read a tenant."""
        tenant = await self._do.tenants.get(current_caller(), request.tenant)
        return pb.GetTenantResponse(tenant=convert.tenant_to_proto(tenant))

    async def UpdateTenant(
        self, request: pb.UpdateTenantRequest, _: Context
    ) -> pb.UpdateTenantResponse:
        """Give a tenant another tier."""
        tenant = await self._do.tenants.set_tier(
            current_caller(), request.tenant, tier=request.tier
        )
        return pb.UpdateTenantResponse(tenant=convert.tenant_to_proto(tenant))

    async def CreateKey(self, request: pb.CreateKeyRequest, _: Context) -> pb.CreateKeyResponse:
        """Make a key."""
        wanted = convert.key_wanted_from_proto(request)
        made = await self._do.keys.create(current_caller(), wanted)
        return pb.CreateKeyResponse(key=convert.key_to_proto(made.key), secret=made.secret)

    async def GetKey(self, request: pb.GetKeyRequest, _: Context) -> pb.GetKeyResponse:
        """Read a key."""
        key = await self._do.keys.get(current_caller(), request.key_id)
        return pb.GetKeyResponse(key=convert.key_to_proto(key))

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

    async def RotateKey(self, request: pb.RotateKeyRequest, _: Context) -> pb.RotateKeyResponse:
        """Put a new key in an old one's place."""
        wanted = convert.rotation_wanted_from_proto(request)
        return convert.rotated_to_proto(await self._do.rotations.rotate(current_caller(), wanted))

    async def CreateUser(self, request: pb.CreateUserRequest, _: Context) -> pb.CreateUserResponse:
        """Add a person."""
        wanted = convert.user_wanted_from_proto(request)
        user = await self._do.users.create(current_caller(), wanted)
        return pb.CreateUserResponse(user=convert.user_to_proto(user))

    async def ListUsers(self, request: pb.ListUsersRequest, _: Context) -> pb.ListUsersResponse:
        """List a tenant's people."""
        page = await self._do.users.list(
            current_caller(),
            tenant=request.tenant,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return convert.user_page_to_proto(page)

    async def UpdateUser(self, request: pb.UpdateUserRequest, _: Context) -> pb.UpdateUserResponse:
        """Give a person another role."""
        user = await self._do.users.set_role(current_caller(), request.number, role=request.role)
        return pb.UpdateUserResponse(user=convert.user_to_proto(user))

    async def RemoveUser(self, request: pb.RemoveUserRequest, _: Context) -> pb.RemoveUserResponse:
        """Remove a person."""
        removed = await self._do.users.remove(current_caller(), request.number)
        return pb.RemoveUserResponse(
            user=convert.user_to_proto(removed.user), keys_revoked=removed.keys_revoked
        )

    async def ListAudit(self, request: pb.ListAuditRequest, _: Context) -> pb.ListAuditResponse:
        """Read the audit log."""
        page = await self._do.audit.list(
            current_caller(),
            tenant=request.tenant,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return convert.audit_page_to_proto(page)

    async def GetUsage(self, request: pb.GetUsageRequest, _: Context) -> pb.GetUsageResponse:
        """Read a month's use."""
        usage = await self._do.metering.month(current_caller(), month=request.month)
        return convert.month_usage_to_proto(usage)

    async def ListUsage(self, request: pb.ListUsageRequest, _: Context) -> pb.ListUsageResponse:
        """What the tenant used day by day."""
        days = await self._do.metering.days(
            current_caller(), first_day=request.first_day, last_day=request.last_day
        )
        return pb.ListUsageResponse(days=[convert.day_usage_to_proto(day) for day in days])


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
