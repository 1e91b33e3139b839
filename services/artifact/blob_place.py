"""Where the bytes of large artifacts are kept: what a URL of a directory or of a bucket says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

DEFAULT_REGION = "us-east-1"
ALLOWED = "file:///absolute/path and s3://bucket?endpoint=https://host:port&region=name are allowed"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
_PARAMETERS = ("endpoint", "region")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPlace:
    """A directory of this machine, or of a volume that all artifact processes share."""

    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket that speaks S3, addressed by path: `endpoint`/`name`/key."""

    name: str
    endpoint: str
    region: str

    @property
    def is_plain_http(self) -> bool:
        """Whether the URL says that nothing is encrypted on the way."""
        return self.endpoint.startswith("http://")


Place: TypeAlias = LocalPlace | Bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobKeys:
    """Who this process is to an S3 server; `session_token` comes with passing keys only."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobSettings:
    """Where large artifacts are kept; a directory takes no keys."""

    place: Place
    keys: BlobKeys | None = None


def read_place(url: str) -> tuple[Place | None, tuple[str, ...]]:
    """The place that `url` names, or None and everything that is wrong with it.

    What is wrong never repeats a user name or a password out of the URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return None, (f"is no URL: {error}; {ALLOWED}",)
    if parts.scheme == "file":
        return _local_place(parts)
    if parts.scheme == "s3":
        return _bucket(parts)
    return None, (
        f"begins with {parts.scheme + ':' if parts.scheme else 'no scheme'!r}; {ALLOWED}",
    )


def _local_place(parts: SplitResult) -> tuple[Place | None, tuple[str, ...]]:
    path = unquote(parts.path)
    mistakes = []
    if parts.netloc or not path.startswith("/"):
        mistakes.append("names no absolute path; file:///absolute/path is allowed")
    elif not path.strip("/") or "\0" in path:
        mistakes.append(f"names the path {path!r}; a directory of its own is needed")
    if parts.query or parts.fragment:
        mistakes.append("has something after its path; a directory takes no parameters")
    return (None if mistakes else LocalPlace(directory=Path(path))), tuple(mistakes)


def _bucket(parts: SplitResult) -> tuple[Place | None, tuple[str, ...]]:
    mistakes = []
    user, _, name = parts.netloc.rpartition("@")
    if user:
        mistakes.append(
            "contains credentials; they belong into PAWL_BLOBS_ACCESS_KEY and PAWL_BLOBS_SECRET_KEY"
        )
    if not _BUCKET.fullmatch(name):
        mistakes.append(
            f"names the bucket {name!r}; 3 to 63 lower-case letters, digits, dots and hyphens "
            "are allowed"
        )
    if parts.path.strip("/") or parts.fragment:
        mistakes.append("has something after the bucket; a whole bucket is needed")
    given, wrong = _parameters(parts.query)
    mistakes += wrong
    region = given.get("region", DEFAULT_REGION)
    if not _REGION.fullmatch(region):
        mistakes.append(
            f"has the region {region!r}; lower-case letters, digits and hyphens are allowed"
        )
    endpoint = given.get("endpoint", f"https://s3.{region}.amazonaws.com").rstrip("/")
    if not _is_endpoint(endpoint):
        mistakes.append("has an endpoint that is no address; http(s)://host:port alone is allowed")
    if mistakes:
        return None, tuple(mistakes)
    return Bucket(name=name, endpoint=endpoint, region=region), ()


def _parameters(query: str) -> tuple[dict[str, str], list[str]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        return {}, [f"has a malformed query: {error}"]
    allowed = " and ".join(_PARAMETERS)
    names = [name for name, _ in pairs]
    mistakes = [
        f"has the parameter {name!r}; {allowed} are allowed"
        for name in dict.fromkeys(names)
        if name not in _PARAMETERS
    ]
    mistakes += [f"has {name} more than once" for name in _PARAMETERS if names.count(name) > 1]
    return dict(pairs), mistakes


def _is_endpoint(text: str) -> bool:
    """Whether it is a scheme, a host and perhaps a port."""
    try:
        parts = urlsplit(text)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"}
        and bool(parts.hostname)
        and has_port
        and not (parts.path or parts.query or parts.fragment)
        and "@" not in parts.netloc
        and not re.search(r"\s", text)
    )
