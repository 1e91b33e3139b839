"""Where a server is and the key to use there, checked before anything is sent. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from libs.client.errors import BadAddress

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_DOTS = {".": "%2E", "..": "%2E%2E"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`base` is what every path is put behind; `url` is what the user wrote."""

    url: str
    base: str
    is_encrypted: bool
    api_key: str = field(repr=False)


def address_of(url: str, api_key: str) -> Address:
    """The address that a user wrote. Raises BadAddress, which never shows a password or a key."""
    parts = _parts(url)
    if not _PRINTABLE.fullmatch(api_key):
        raise BadAddress("the API key is none: it has other characters; check PAWL_API_KEY")
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return Address(url=url, base=base, is_encrypted=parts.scheme == "https", api_key=api_key)


def path_of(*segments: str) -> str:
    """A path of segments, whatever a user took for an id."""
    return "".join(
        f"/{_DOTS.get(one) or quote(one, safe='', errors='replace')}" for one in segments
    )


def with_query(path: str, query: dict[str, object]) -> str:
    """The path with the parameters that are not None."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadAddress(f"{url!a} is not an http:// or https:// address: {error}") from error
    if "@" in parts.netloc:
        raise BadAddress("the address has a user name, which Pawl does not know; set PAWL_API_KEY")
    if parts.scheme not in {"http", "https"} or not host or not host.isprintable() or " " in host:
        raise BadAddress(f"{url} is not an http:// or https:// address")
    if "?" in url or "#" in url:
        raise BadAddress("the address has a query or a fragment; paths are put behind it")
    return parts
