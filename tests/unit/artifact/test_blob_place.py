from __future__ import annotations

from pathlib import Path

import pytest

from services.artifact.blob_place import Bucket, LocalPlace, Place, read_place


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("file:///srv/blobs", LocalPlace(directory=Path("/srv/blobs"))),
        ("file:///srv/my%20blobs/", LocalPlace(directory=Path("/srv/my blobs"))),
        (
            "s3://pawl-1.x",
            Bucket(
                name="pawl-1.x",
                endpoint="https://s3.us-east-1.amazonaws.com",
                region="us-east-1",
            ),
        ),
        (
            "s3://pawl/?region=eu-central-1",
            Bucket(
                name="pawl",
                endpoint="https://s3.eu-central-1.amazonaws.com",
                region="eu-central-1",
            ),
        ),
        (
            "s3://pawl?endpoint=http://s3:7070/",
            Bucket(name="pawl", endpoint="http://s3:7070", region="us-east-1"),
        ),
        (
            "s3://pawl?region=x&endpoint=https%3A%2F%2F[::1]%3A7070",
            Bucket(name="pawl", endpoint="https://[::1]:7070", region="x"),
        ),
    ],
)
def test_a_url_names_a_place(url: str, place: Place) -> None:
    assert read_place(url) == (place, ())


@pytest.mark.parametrize(
    ("endpoint", "is_plain"), [("http://s3:7070", True), ("https://s3:7070", False)]
)
def test_only_a_url_that_says_http_is_plain(endpoint: str, is_plain: bool) -> None:
    place, _ = read_place(f"s3://pawl?endpoint={endpoint}")

    assert isinstance(place, Bucket)
    assert place.is_plain_http is is_plain


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/srv/blobs", "no scheme"),
        ("gs://bucket", "gs:"),
        ("http://s3/bucket", "http:"),
        ("s3://[", "no URL"),
        ("file://srv/blobs", "no absolute path"),
        ("file:srv", "no absolute path"),
        ("file://localhost/srv", "no absolute path"),
        ("file:///", "directory of its own"),
        ("file:///%00", "directory of its own"),
        ("file:///srv?mkdir=1", "after its path"),
        ("file:///srv#x", "after its path"),
        ("s3://", "the bucket ''"),
        ("s3:///pawl", "the bucket ''"),
        ("s3://pa", "the bucket 'pa'"),
        ("s3://Pawl", "the bucket 'Pawl'"),
        ("s3://pawl:80", "the bucket 'pawl:80'"),
        ("s3://pawl/prefix", "after the bucket"),
        ("s3://pawl#x", "after the bucket"),
        ("s3://pawl?prefix=x", "'prefix'"),
        ("s3://pawl?endpoint", "malformed query"),
        ("s3://pawl?region=a&region=b", "region more than once"),
        ("s3://pawl?region=", "the region ''"),
        ("s3://pawl?region=eu/../", "the region 'eu/../'"),
        ("s3://pawl?endpoint=", "endpoint"),
        ("s3://pawl?endpoint=s3:7070", "endpoint"),
        ("s3://pawl?endpoint=ftp://s3", "endpoint"),
        ("s3://pawl?endpoint=https://", "endpoint"),
        ("s3://pawl?endpoint=https://s3:x", "endpoint"),
        ("s3://pawl?endpoint=https://s3:99999", "endpoint"),
        ("s3://pawl?endpoint=https://s3/path", "endpoint"),
        ("s3://pawl?endpoint=https://s3%3Fx", "endpoint"),
        ("s3://pawl?endpoint=https://s%203", "endpoint"),
    ],
)
def test_what_names_no_place_is_said(url: str, said: str) -> None:
    place, mistakes = read_place(url)

    assert place is None
    assert any(said in mistake for mistake in mistakes)


@pytest.mark.parametrize(
    "url", ["s3://key:hush@pawl", "s3://pawl?endpoint=https://key:hush@s3", "s3://key:hush@P/x?y=z"]
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    place, mistakes = read_place(url)

    assert place is None
    assert mistakes
    assert "hush" not in " ".join(mistakes)


def test_every_mistake_of_a_url_is_named() -> None:
    _, mistakes = read_place("s3://P/x?region=&colour=blue&endpoint=x")

    assert len(mistakes) == 5
