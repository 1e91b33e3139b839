"""URLs are read strictly or refused."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.net.refusals import EgressDenied, EgressRule
from libs.net.urls import MAX_LENGTH, read_url


@pytest.mark.parametrize(
    ("text", "said", "authority"),
    [
        ("https://example.com", "https://example.com/", "example.com"),
        ("HTTPS://Example.Com:443/", "https://example.com/", "example.com"),
        ("http://example.com:443/", "http://example.com:443/", "example.com:443"),
        ("https://example.com:8443?q", "https://example.com:8443/?q", "example.com:8443"),
        (
            "https://e.x/a/../b;c=1?d=%C3%B6&e[]=@:/?",
            "https://e.x/a/../b;c=1?d=%C3%B6&e[]=@:/?",
            "e.x",
        ),
        ("https://e.x/p@q", "https://e.x/p@q", "e.x"),
        ("https://e.x/#@127.0.0.1/", "https://e.x/", "e.x"),
        ("https://e.x?//127.0.0.1", "https://e.x/?//127.0.0.1", "e.x"),
        ("http://[2606:2800::1]:80/", "http://[2606:2800::1]/", "[2606:2800::1]"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/", "xn--bcher-kva.example"),
    ],
)
def test_url_is_read(text: str, said: str, authority: str) -> None:
    url = read_url(text)

    assert str(url) == said
    assert url.authority == authority


def test_a_fragment_is_kept_apart() -> None:
    assert read_url("https://e.x/#a").fragment == "a"
    assert read_url("https://e.x/").fragment is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", EgressRule.URL),
        ("example.com", EgressRule.URL),
        ("//example.com/", EgressRule.URL),
        ("/path", EgressRule.URL),
        ("https:example.com", EgressRule.URL),
        ("https:/example.com", EgressRule.URL),
        ("https://", EgressRule.HOST),
        ("https:///example.com", EgressRule.HOST),
        ("https://:443/", EgressRule.HOST),
        ("https://?q", EgressRule.HOST),
        ("https://#f", EgressRule.HOST),
        ("ftp://example.com/", EgressRule.SCHEME),
        ("file:///etc/passwd", EgressRule.SCHEME),
        ("gopher://127.0.0.1:6379/_x", EgressRule.SCHEME),
        ("javascript:alert(1)", EgressRule.SCHEME),
        ("data:text/plain,x", EgressRule.SCHEME),
        ("unix:/run/docker.sock", EgressRule.SCHEME),
        ("wss://example.com/", EgressRule.SCHEME),
        ("httpsx://example.com/", EgressRule.SCHEME),
        ("view-source:https://e.x/", EgressRule.SCHEME),
        (" https://example.com/", EgressRule.URL),
        ("https://example.com/ ", EgressRule.URL),
        ("https://a b/", EgressRule.URL),
        ("https://exa\tmple.com/", EgressRule.URL),
        ("https://example.com/\r\nX: y", EgressRule.URL),
        ("ht\ntps://example.com/", EgressRule.URL),
        ("https://example.com/\x00", EgressRule.URL),
        ("https://example.com/\x7f", EgressRule.URL),
        ("https://127.0.0.1\\@ok.example/", EgressRule.URL),
        ("https:\\\\example.com\\", EgressRule.URL),
        ("https://ok.example/<x>", EgressRule.URL),
        ("https://ok.example/{x}", EgressRule.URL),
        ("https://ok.example/|", EgressRule.URL),
        ("https://ok.example/ö", EgressRule.URL),
        ("https://ok.example/?q=ö", EgressRule.URL),
        ("https://ok.example/%", EgressRule.URL),
        ("https://ok.example/%zz", EgressRule.URL),
        ("https://ok.example/?%1", EgressRule.URL),
        ("https://user@ok.example/", EgressRule.CREDENTIALS),
        ("https://user:pass@ok.example/", EgressRule.CREDENTIALS),
        ("https://@ok.example/", EgressRule.CREDENTIALS),
        ("https://ok.example@127.0.0.1/", EgressRule.CREDENTIALS),
        ("https://ok.example:", EgressRule.URL),
        ("https://ok.example:/", EgressRule.URL),
        ("https://ok.example:0/", EgressRule.URL),
        ("https://ok.example:080/", EgressRule.URL),
        ("https://ok.example:65536/", EgressRule.URL),
        ("https://ok.example:99999999999/", EgressRule.URL),
        ("https://ok.example:-1/", EgressRule.URL),
        ("https://ok.example:+80/", EgressRule.URL),
        ("https://ok.example:8a/", EgressRule.URL),
        ("https://ok.example:８０/", EgressRule.URL),
        ("https://ok.example:80:80/", EgressRule.HOST),
        ("https://::1/", EgressRule.HOST),
        ("https://[::1/", EgressRule.HOST),
        ("https://[::1]x/", EgressRule.HOST),
        ("https://[::1]:/", EgressRule.URL),
        ("https://ok.example%2f@127.0.0.1/", EgressRule.CREDENTIALS),
        ("https://ok.example%00.evil.example/", EgressRule.HOST),
        ("https://ok.example;x/", EgressRule.HOST),
        ("https://" + "a" * MAX_LENGTH, EgressRule.URL),
    ],
)
def test_url_is_refused(text: str, rule: EgressRule) -> None:
    with pytest.raises(EgressDenied) as denied:
        read_url(text)

    assert denied.value.rule is rule
    assert denied.value.message.isascii()


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(EgressDenied) as denied:
        read_url("https://user:hunter2@ok.example/")

    assert "hunter2" not in denied.value.message


ODD = st.lists(
    st.sampled_from(
        ["http", "https", "://", ":", "//", "/", "\\", "@", "#", "?", "[", "]", "%", "%40", ".",
         "..", "127.0.0.1", "::1", "localhost", "ok.example", "0x7f", "1", "01", "80", "８", "。",
         " ", "\t", "\r\n", "\x00", "ü", "ß", "xn--", "a", "-", "_", "&", "=", ";", "user", "[::1]"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@given(st.one_of(ODD, st.text(max_size=60), ODD.map(lambda text: f"https://{text}")))
def test_what_is_read_means_the_same_to_other_readers(text: str) -> None:
    try:
        url = read_url(text)
    except EgressDenied:
        return

    for other in (text, str(url)):
        if other.isascii():
            split = urlsplit(other)
            assert split.scheme == url.scheme
            assert (split.hostname or "") in {url.host.text, *_spellings(url.host.text)}
            assert (split.port or {"http": 80, "https": 443}[split.scheme]) == url.port
            assert httpx2.URL(other).port in {None, url.port}
            assert httpx2.URL(other).host in _spellings(split.hostname or "")
    assert read_url(str(url)).authority == url.authority


def _spellings(host: str) -> set[str]:
    """A host as other libraries show it: IDNA as Unicode, addresses unshortened."""
    shown = httpx2.URL(f"http://[{host}]/" if ":" in host else f"http://{host}/").host
    return {host, shown}
