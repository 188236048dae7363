"""Server URLs: every accepted form, clear refusals, and no password anywhere."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redflow.engines.redis.urls import ACCEPTED_FORMS, ConnectionOptions, ServerAddress, parse_url, redacted


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", ServerAddress("tcp", (("localhost", 6379),))),
        ("redis:///3", ServerAddress("tcp", (("localhost", 6379),), db=3)),
        ("redis://cache", ServerAddress("tcp", (("cache", 6379),))),
        ("redis://cache:6380/", ServerAddress("tcp", (("cache", 6380),))),
        ("REDIS://cache:6380/15", ServerAddress("tcp", (("cache", 6380),), db=15)),
        ("redis://cache?db=4", ServerAddress("tcp", (("cache", 6379),), db=4)),
        ("redis://[::1]:6380/1", ServerAddress("tcp", (("::1", 6380),), db=1)),
        ("redis://[fe80::1%eth0]", ServerAddress("tcp", (("fe80::1%eth0", 6379),))),
        ("redis://me:pw@cache", ServerAddress("tcp", (("cache", 6379),), username="me", password="pw")),
        ("redis://:pw@cache", ServerAddress("tcp", (("cache", 6379),), password="pw")),
        ("redis://me@cache", ServerAddress("tcp", (("cache", 6379),), username="me")),
        (
            "redis://a%40b:p%2F%3A%40%25%23%3F@cache",
            ServerAddress("tcp", (("cache", 6379),), username="a@b", password="p/:@%#?"),
        ),
        ("redis://:a:b@c@cache", ServerAddress("tcp", (("cache", 6379),), password="a:b@c")),
        (
            "redis://cache?username=me&password=p%26q",
            ServerAddress("tcp", (("cache", 6379),), username="me", password="p&q"),
        ),
        ("rediss://cache", ServerAddress("tls", (("cache", 6379),))),
        ("unix:///run/redis.sock", ServerAddress("unix", path="/run/redis.sock")),
        ("unix:///run/a%20b%3F@c.sock?db=2", ServerAddress("unix", db=2, path="/run/a b?@c.sock")),
        (
            "unix://me:pw@/run/redis.sock",
            ServerAddress("unix", username="me", password="pw", path="/run/redis.sock"),
        ),
        ("redis+sentinel://s1/main", ServerAddress("sentinel", (("s1", 26379),), service="main")),
        (
            "redis+sentinel://:pw@s1:1,[::1]:2,s3/main?db=5",
            ServerAddress("sentinel", (("s1", 1), ("::1", 2), ("s3", 26379)), db=5, password="pw", service="main"),
        ),
        ("redis+cluster://n1", ServerAddress("cluster", (("n1", 6379),))),
        (
            "redis+cluster://u:pw@n1:7000,n2:7001/",
            ServerAddress("cluster", (("n1", 7000), ("n2", 7001)), username="u", password="pw"),
        ),
        ("embedded://", ServerAddress("embedded", path="./.redflow")),
        ("embedded:///var/lib/flow", ServerAddress("embedded", path="/var/lib/flow")),
        ("embedded://./data", ServerAddress("embedded", path="./data")),
        ("embedded://data/sub", ServerAddress("embedded", path="data/sub")),
        ("embedded://../My%20Data@x", ServerAddress("embedded", path="../My Data@x")),
    ],
)
def test_accepted(url: str, expected: ServerAddress) -> None:
    assert parse_url(url) == expected


def test_options() -> None:
    address = parse_url(
        "rediss://cache?socket_timeout=2.5&socket_connect_timeout=1&client_name=my+app&ssl_cert_reqs=none"
        "&ssl_check_hostname=false&ssl_ca_certs=/etc/ca.pem&ssl_ca_path=/etc/ca&ssl_certfile=/me.pem&ssl_keyfile=/me.key"
    )
    assert address.options == ConnectionOptions(
        socket_timeout=2.5,
        socket_connect_timeout=1.0,
        client_name="my app",
        ssl_cert_reqs="none",
        ssl_check_hostname=False,
        ssl_ca_certs="/etc/ca.pem",
        ssl_ca_path="/etc/ca",
        ssl_certfile="/me.pem",
        ssl_keyfile="/me.key",
    )


def test_tls_towards_sentinel_and_cluster_is_an_option() -> None:
    assert parse_url("rediss://cache").tls
    assert not parse_url("redis://cache").tls
    assert not parse_url("redis+cluster://n1").tls
    assert parse_url("redis+cluster://n1?ssl=true&ssl_cert_reqs=required").tls
    address = parse_url("redis+sentinel://s1/main?ssl=yes&sentinel_username=u&sentinel_password=pw")
    assert address.tls
    assert (address.options.sentinel_username, address.options.sentinel_password) == ("u", "pw")
    assert "pw" not in repr(address.options)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "it is empty"),
        ("localhost:6379", "it has no scheme such as redis://"),
        ("http://cache", "its scheme is not known"),
        ("temporal://host", "its scheme is not known"),
        (" redis://cache", "white space or control characters"),
        ("redis://cache\n", "white space or control characters"),
        ("redis://ca\x00che", "white space or control characters"),
        ("redis://cache#1", 'it contains "#"'),
        ("redis://cache:", "a port must be a number from 1 to 65535"),
        ("redis://cache:abc", "a port must be a number from 1 to 65535"),
        ("redis://cache:0", "a port must be a number from 1 to 65535"),
        ("redis://cache:65536", "a port must be a number from 1 to 65535"),
        ("redis://cache:-1", "a port must be a number from 1 to 65535"),
        ("redis://::1:6379", "an IPv6 address is written as [::1]:6379"),
        ("redis://[::1", "an IPv6 address is written as [::1]:6379"),
        ("redis://[::1]6379", "an IPv6 address is written as [::1]:6379"),
        ("redis://[cache]", "an IPv6 address is written as [::1]:6379"),
        ("redis://a,b", "several hosts need redis+sentinel:// or redis+cluster://"),
        ("redis://cache/zero", "the database must be a number such as 0"),
        ("redis://cache/-1", "the database must be a number such as 0"),
        ("redis://cache/0/1", "the database must be a number such as 0"),
        ("redis://cache/1?db=2", "the database is given twice"),
        ("redis://me:pw@cache?password=pw", "a user name or password both before the host and as an option"),
        ("redis://:p/w@cache", 'the part after the host contains "@"'),
        ("redis://:%ff@cache", "a percent-encoded part is not UTF-8"),
        ("redis://:%00@cache", "a NUL character"),
        ("redis://cache?decode_responses=True", "the option decode_responses is not known"),
        ("redis://cache?client_name=", "the option client_name is empty"),
        ("redis://cache?client_name=a&client_name=b", "the option client_name is given twice"),
        ("redis://cache?socket_timeout=0", "the option socket_timeout must be a number of seconds above 0"),
        ("redis://cache?socket_timeout=nan", "the option socket_timeout must be a number of seconds above 0"),
        ("redis://cache?ssl_cert_reqs=none", "the option ssl_cert_reqs is not known for this kind of URL"),
        ("rediss://cache?ssl_cert_reqs=maybe", "must be required, optional or none"),
        ("rediss://cache?ssl_check_hostname=maybe", "must be true or false"),
        ("redis+cluster://n1?ssl_cert_reqs=none", "the ssl_ options need ssl=true"),
        ("redis+cluster://n1/1", "a Cluster has no database numbers"),
        ("redis+cluster://n1?db=1", "the option db is not known"),
        ("redis+cluster://", "a host is missing"),
        ("redis+cluster://n1,,n2", "a host is missing"),
        ("redis+sentinel://s1", "the name of the master is missing"),
        ("redis+sentinel:///main", "a host is missing"),
        ("redis+sentinel://s1/main/0", "only the name of the master may follow the hosts"),
        ("unix://", "three slashes"),
        ("unix:///", "three slashes"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix:///run/redis.sock?db=x", "the database must be a number such as 0"),
        ("embedded:///", "the root directory can't hold the data"),
        ("embedded:///data?db=1", "the option db is not known for this kind of URL (known: none)"),
    ],
)
def test_refused_with_the_reason_and_the_accepted_forms(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)) as refusal:
        parse_url(url)
    text = str(refusal.value)
    assert all(form in text for form in ACCEPTED_FORMS)
    assert "\x00" not in text
    # Nothing that might hold a password hangs on it either.
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@cache:6379/0",
        "redis://me:s3cret@cache",
        "rediss://s3cret@cache",
        "redis://:s3/cret@cache",
        "redis://:x/s3cret@cache",
        "redis://:x?s3cret@cache",
        "redis://:x?s3cret=1@cache",
        "redis://:x#s3cret@cache",
        "redis://:s3cret@cache:port",
        "redis://cache/0?password=s3cret",
        "redis://cache/0?db=x&password=s3cret&client_name=a",
        "redis+sentinel://s1/main?sentinel_password=s3cret&db=x",
        "unix://:s3cret@/run/redis.sock",
        "unix:///run/redis.sock?password=s3cret",
        "http://me:s3cret@cache",
        "me:s3cret@cache:6379",
        "redis://[s3cret@cache",
        "redis://me:s3cret%ff@cache",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    assert "s3" not in redacted(url).replace("s1", "")
    try:
        address = parse_url(url)
    except ValueError as refusal:
        shown = str(refusal)
    else:
        shown = f"{address} {address!r} {address.options!r}"
    assert "cret" not in shown.replace("secret", "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://me:pw@cache", "redis://***@cache"),
        ("redis://cache?password=pw&db=1", "redis://cache?password=***&db=1"),
        ("unix:///tmp/a@b.sock", "unix:///tmp/a@b.sock"),
        ("embedded:///tmp/a@b", "embedded:///tmp/a@b"),
        ("redis://ca\x1b[31mche", "redis://ca\\x1b[31mche"),
        ("", ""),
        ("@", "***@"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache:6379",
        "redis://cache:6379/2",
        "rediss://me:***@cache:6379/2",
        "redis://:***@[::1]:6379",
        "unix:///run/redis.sock",
        "unix://me:***@/run/redis.sock?db=2",
        "redis+sentinel://s1:1,s2:2/main?db=3",
        "redis+cluster://n1:7000,n2:7001",
        "embedded://./.redflow",
        "embedded:///data",
    ],
)
def test_an_address_shows_itself_as_a_url(url: str) -> None:
    address = parse_url(url)
    assert str(address) == url
    assert repr(address) == f"ServerAddress('{url}')"


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for url in (text, f"redis://{text}", f"redis+sentinel://{text}", f"unix:///{text}", f"embedded://{text}"):
        redacted(url)
        try:
            address = parse_url(url)
        except ValueError:
            continue
        assert parse_url(url) == address


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_encoded_password_comes_out_as_it_was(password: str) -> None:
    address = parse_url(f"redis://:{quote(password, safe='')}@cache:1/0")
    assert address.password == password
    assert address.hosts == (("cache", 1),)
    assert str(address) == "redis://:***@cache:1"
