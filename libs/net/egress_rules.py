"""Whether a host on a port may be reached: the one decision that every request passes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from libs.net.address_rules import special
from libs.net.allow_list import NOTHING_MORE, AllowList
from libs.net.hosts import Host, IpAddress
from libs.net.refusals import EgressDenied, EgressRule
from libs.net.urls import Url

ALLOW_SETTING = "PAWL_EGRESS_ALLOW"

# Names below these never lead to the public network (RFC 6761, 6762, 7686, 8375, 9476; ICANN
# keeps `internal` for private use).
_LOCAL_ENDINGS = frozenset(
    {
        "localhost",
        "local",
        "internal",
        "intranet",
        "private",
        "corp",
        "home",
        "lan",
        "localdomain",
        "home.arpa",
        "alt",
        "onion",
        "invalid",
        "test",
    }
)
_HINT = f"whoever runs Pawl can allow it ({ALLOW_SETTING})"


@dataclass(frozen=True, slots=True)
class EgressRules:
    """The rules with what an operator allows beyond them."""

    allowed: AllowList = NOTHING_MORE

    def check_url(self, url: Url) -> None:
        """Raise EgressDenied for what needs no resolver to be refused."""
        self.check_host(url.host, url.port)

    def check_host(self, host: Host, port: int) -> None:
        """Like `check_url`: LOCAL_NAME, PORT; ADDRESS for an address that stands for itself."""
        if host.address is not None:
            self.check_addresses(host, port, (host.address,))
            return
        if self.allowed.has_name(host, port) or self.allowed.may_list(port):
            return
        if is_local(host):
            raise _local_name(host)
        self._check_port(host, port)

    def check_addresses(
        self,
        host: Host,
        port: int,
        addresses: Sequence[IpAddress],
        *,
        own: Collection[IpAddress] = (),
    ) -> None:
        """Judge every address that the name leads to; one that is refused refuses the request.

        `own` are those of them that this machine itself has. Raises EgressDenied(ADDRESS,
        LOCAL_NAME, PORT).
        """
        named = self.allowed.has_name(host, port)
        for address in addresses:
            if self.allowed.has_address(address, port):
                continue
            found = special(address)
            if found is not None and not (named and found.is_internal):
                raise _address(host, found.what)
            if named:
                continue
            if is_local(host):
                raise _local_name(host)
            if address in own:
                raise _address(host, "an address of this machine itself")
            self._check_port(host, port)

    def _check_port(self, host: Host, port: int) -> None:
        if port not in self.allowed.ports:
            allowed = ", ".join(map(str, sorted(self.allowed.ports)))
            raise EgressDenied(
                EgressRule.PORT,
                f"the port {port} of {host} is not allowed; allowed are {allowed}; {_HINT}",
            )


def is_local(host: Host) -> bool:
    """Whether the name means something in a local network only: no dot, or a reserved ending."""
    if host.address is not None:
        return False
    return not host.is_dotted or any(host.text.endswith(f".{end}") for end in _LOCAL_ENDINGS)


def _local_name(host: Host) -> EgressDenied:
    return EgressDenied(
        EgressRule.LOCAL_NAME,
        f"{host} is a name of a local network; names of the public network are allowed; {_HINT}",
    )


def _address(host: Host, what: str) -> EgressDenied:
    # Which address a name has inside is nobody's business who asks from outside.
    verb = "is" if host.address is not None else "leads to"
    return EgressDenied(
        EgressRule.ADDRESS,
        f"{host} {verb} {what}; public addresses are allowed; {_HINT}",
    )
