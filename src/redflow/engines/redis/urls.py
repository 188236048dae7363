"""Server URLs: what is accepted, what it means, and how it is shown without its secrets.

The forms are listed in `ACCEPTED_FORMS`. A URL is taken apart by hand: `urllib.parse` knows no host lists,
keeps what it parsed in a cache, and puts pieces of a malformed URL, perhaps of its password, into its errors.
Here an error shows the URL only through `redacted`, never a piece of it that might belong to a password.

Percent-encode what is special: in a password `@ : / ? # %`, in a path `? # %`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn
from urllib.parse import unquote, unquote_plus

ServerKind = Literal["tcp", "tls", "unix", "sentinel", "cluster", "embedded"]
"""How a server is reached."""

CertificateCheck = Literal["required", "optional", "none"]
"""What TLS asks of the server's certificate; `none` gives up the protection against a man in the middle."""

DEFAULT_EMBEDDED_DIRECTORY: Final = "./.redflow"
"""Where `embedded://` keeps its data, relative to the working directory."""

ACCEPTED_FORMS: Final = (
    "redis://[user:password@]host[:6379][/db]",
    "rediss://[user:password@]host[:6379][/db] (TLS)",
    "unix://[user:password@]/path/to/redis.sock[?db=0]",
    "redis+sentinel://[user:password@]host1:26379,host2:26379/master[?db=0]",
    "redis+cluster://[user:password@]host1:6379[,host2:6379]",
    "embedded://[/dir] (the bundled server; data in ./.redflow unless said otherwise)",
)
"""What a URL may look like, as errors and the command line show it."""

_KINDS: Final[Mapping[str, ServerKind]] = {
    "redis": "tcp",
    "rediss": "tls",
    "unix": "unix",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "embedded": "embedded",
}
_DEFAULT_PORTS: Final[Mapping[ServerKind, int]] = {
    "tcp": 6379,
    "tls": 6379,
    "sentinel": 26379,
    "cluster": 6379,
}

_CERTIFICATE_CHECKS: Final[Mapping[str, CertificateCheck]] = {
    "required": "required",
    "optional": "optional",
    "none": "none",
}

_CREDENTIALS: Final = frozenset({"username", "password"})
_TUNING: Final = frozenset({"socket_timeout", "socket_connect_timeout", "client_name"})
_TLS: Final = frozenset(
    {"ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}
)
_OPTIONS: Final[Mapping[ServerKind, frozenset[str]]] = {
    "tcp": _CREDENTIALS | _TUNING | {"db"},
    "tls": _CREDENTIALS | _TUNING | _TLS | {"db"},
    "unix": _CREDENTIALS | _TUNING | {"db"},
    "sentinel": _CREDENTIALS | _TUNING | _TLS | {"db", "ssl", "sentinel_username", "sentinel_password"},
    "cluster": _CREDENTIALS | _TUNING | _TLS | {"ssl"},
    "embedded": frozenset(),
}

_SECRET_OPTION = re.compile(r"([?&][^=&#]*(?:pass|secret|token)[^=&#]*=)[^&#]*", re.IGNORECASE)
_OPTION_NAME = re.compile(r"[a-z_]{1,40}")
# White space, control characters, and the marks that turn the direction of a text.
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_IPV6 = re.compile(r"\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\](?:(:)(.*))?")


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What the query part of a URL says; None means "not said, use our default".

    Attributes:
        socket_timeout: longest silence of the server while it owes a reply, seconds.
        socket_connect_timeout: longest time to open a connection, seconds.
        client_name: name that `CLIENT LIST` shows.
        ssl: use TLS towards a Sentinel or Cluster address (`rediss://` says it by its scheme).
        ssl_cert_reqs: what is asked of the server's certificate; by default it must be valid.
        ssl_check_hostname: whether the certificate must name the host.
        ssl_ca_certs: file of trusted certificates; by default those of the system.
        ssl_ca_path: directory of trusted certificates.
        ssl_certfile: our own certificate, for servers that ask for one.
        ssl_keyfile: the private key of it.
        sentinel_username: user name for the Sentinels, when they ask for one.
        sentinel_password: password for the Sentinels; never shown.
    """

    socket_timeout: float | None = None
    socket_connect_timeout: float | None = None
    client_name: str | None = None
    ssl: bool = False
    ssl_cert_reqs: CertificateCheck | None = None
    ssl_check_hostname: bool | None = None
    ssl_ca_certs: str | None = None
    ssl_ca_path: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class ServerAddress:
    """Where a server is and how to log in; `repr` and `str` hide the password.

    Attributes:
        kind: how the server is reached.
        hosts: (host, port) pairs: one for tcp and tls, one or more for sentinel and cluster, else none.
        db: number of the logical database.
        username: user name, percent-decoded.
        password: password, percent-decoded.
        path: the socket's path (unix) or the data directory as written (embedded), else None.
        service: name of the master that the Sentinels watch, else None.
        options: the query part.
    """

    kind: ServerKind
    hosts: tuple[tuple[str, int], ...] = ()
    db: int = 0
    username: str | None = None
    password: str | None = None
    path: str | None = None
    service: str | None = None
    options: ConnectionOptions = field(default_factory=ConnectionOptions)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.kind == "tls" or self.options.ssl

    def __str__(self) -> str:
        scheme = next(name for name, kind in _KINDS.items() if kind == self.kind)
        # A name without a password may well be a password at the wrong place.
        name = "***" if self.username and self.password is None else self.username or ""
        login = f"{name}:***@" if self.password is not None else f"{name}@" if name else ""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        tail = self.path or (f"/{self.service}" if self.service else "")
        if self.db:
            tail += f"/{self.db}" if self.kind in ("tcp", "tls") else f"?db={self.db}"
        return f"{scheme}://{login}{hosts}{tail}"

    def __repr__(self) -> str:
        return f"ServerAddress({str(self)!r})"


def redacted(url: str) -> str:
    """The URL for messages and logs: user name, password and secret options give way to `***`.

    Takes any text, also one that is no valid URL, and then rather hides too much: everything up to the last
    `@` may be part of a password that should have been encoded. Control characters come out escaped.

    >>> redacted("redis://:s3cret@cache:6379/0")
    'redis://***@cache:6379/0'
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    # Only a socket's or a directory's path may hold an innocent "@".
    has_login = "@" in rest and not (scheme in ("unix", "embedded") and rest.startswith("/"))
    if has_login:
        rest = "***@" + rest.rpartition("@")[2]
    shown = _SECRET_OPTION.sub(r"\1***", f"{scheme}{separator}{rest}")
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), shown)


def parse_url(url: str) -> ServerAddress:
    """Take a server URL apart; nothing is looked up or connected to.

    Args:
        url: in one of `ACCEPTED_FORMS`.

    Raises:
        ValueError: it is not in one of them. The text says what is wrong, lists them, and shows no password.

    Example:
        >>> parse_url("redis://:s3cret@cache/2")
        ServerAddress('redis://:***@cache:6379/2')
    """
    return _UrlParser(url).parse()


class _UrlParser:
    """One URL on its way through `parse_url`; every method either returns a part or raises ValueError."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._kind: ServerKind = "tcp"
        self._query: dict[str, str] = {}

    def parse(self) -> ServerAddress:
        self._kind, rest = self._split_scheme()
        rest, has_query, query = rest.partition("?")
        self._query = self._parse_query(query) if has_query else {}
        if self._kind == "embedded":
            return ServerAddress("embedded", path=self._embedded_directory(rest))

        authority, slash, path = rest.partition("/")
        login, has_login, place = authority.rpartition("@")
        username, password = self._credentials(login if has_login else None)
        if self._kind == "unix":
            return ServerAddress(
                "unix",
                db=self._db(None),
                username=username,
                password=password,
                path=self._socket_path(place, slash + path),
                options=self._options(),
            )
        if "@" in path:
            self._fail('the part after the host contains "@": encode / ? # @ in a password (%2F %3F %23 %40)')
        service = self._service(path) if self._kind == "sentinel" else None
        return ServerAddress(
            self._kind,
            hosts=self._hosts(place),
            db=self._db(None if service else path),
            username=username,
            password=password,
            service=service,
            options=self._options(),
        )

    def _fail(self, why: str) -> NoReturn:
        forms = "".join(f"\n  {form}" for form in ACCEPTED_FORMS)
        raise ValueError(f"bad server URL '{redacted(self._url)}': {why}. Accepted forms:{forms}") from None

    def _split_scheme(self) -> tuple[ServerKind, str]:
        if not self._url:
            self._fail("it is empty")
        if _UNPRINTABLE.search(self._url):
            self._fail("it contains white space or control characters")
        if "#" in self._url:
            self._fail('it contains "#": write it as %23')
        scheme, separator, rest = self._url.partition("://")
        if not separator:
            self._fail("it has no scheme such as redis://")
        kind = _KINDS.get(scheme.lower())
        if kind is None:
            self._fail("its scheme is not known")
        return kind, rest

    # --- places ---------------------------------------------------------------------------------------------

    def _hosts(self, text: str) -> tuple[tuple[str, int], ...]:
        many = self._kind in ("sentinel", "cluster")
        parts = text.split(",")
        if len(parts) > 1 and not many:
            self._fail("several hosts need redis+sentinel:// or redis+cluster://")
        return tuple(self._host_and_port(part, may_be_empty=not many) for part in parts)

    def _host_and_port(self, text: str, *, may_be_empty: bool) -> tuple[str, int]:
        if text.startswith("["):
            match = _IPV6.fullmatch(text)
            if match is None:
                self._fail("an IPv6 address is written as [::1]:6379")
            host, separator, port = match[1], match[2], match[3]
        else:
            host, separator, port = text.partition(":")
            if ":" in port:
                self._fail("the host part has too many colons; an IPv6 address is written as [::1]:6379")
        if not host and not may_be_empty:
            self._fail("a host is missing")
        if not separator:
            return host or "localhost", _DEFAULT_PORTS[self._kind]
        number = _whole_number(port)
        if number is None or not 1 <= number <= 65535:
            self._fail("a port must be a number from 1 to 65535")
        return host or "localhost", number

    def _service(self, path: str) -> str:
        service = self._decoded(path)
        if not service:
            self._fail("the name of the master is missing: redis+sentinel://host:26379/<master>")
        if "/" in service:
            self._fail("only the name of the master may follow the hosts; the database is ?db=0")
        return service

    def _socket_path(self, place: str, path: str) -> str:
        if place or len(path) < 2:
            self._fail("a socket needs an absolute path, so three slashes: unix:///path/to/redis.sock")
        return self._decoded(path)

    def _embedded_directory(self, text: str) -> str:
        directory = self._decoded(text)
        if directory == "/":
            self._fail("the root directory can't hold the data: embedded:// or embedded:///dir")
        return directory or DEFAULT_EMBEDDED_DIRECTORY

    # --- login and database ---------------------------------------------------------------------------------

    def _credentials(self, login: str | None) -> tuple[str | None, str | None]:
        if login is None:
            return self._query.get("username"), self._query.get("password")
        if _CREDENTIALS & self._query.keys():
            self._fail("it has a user name or password both before the host and as an option")
        username, has_password, password = login.partition(":")
        return self._decoded(username) or None, (self._decoded(password) or None) if has_password else None

    def _db(self, path: str | None) -> int:
        path = (path or "").removesuffix("/")
        if path and self._kind == "cluster":
            self._fail("a Cluster has no database numbers")
        if path and "db" in self._query:
            self._fail("the database is given twice: /db and ?db=")
        number = _whole_number(path or self._query.get("db", "0"))
        if number is None:
            self._fail("the database must be a number such as 0")
        return number

    # --- options --------------------------------------------------------------------------------------------

    def _parse_query(self, query: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for item in filter(None, query.split("&")):
            name, _, value = item.partition("=")
            if name not in _OPTIONS[self._kind]:
                self._refuse_option(name)
            if name in found:
                self._fail(f"the option {name} is given twice")
            found[name] = self._decoded(value, plus_is_space=True)
            if not found[name]:
                self._fail(f"the option {name} is empty")
        return found

    def _refuse_option(self, name: str) -> NoReturn:
        # A strange "name" may be the rest of a password with a "?" in it.
        shown = f"the option {name}" if _OPTION_NAME.fullmatch(name) else "an option"
        known = ", ".join(sorted(_OPTIONS[self._kind])) or "none"
        self._fail(f"{shown} is not known for this kind of URL (known: {known})")

    def _options(self) -> ConnectionOptions:
        query = self._query
        options = ConnectionOptions(
            socket_timeout=self._seconds("socket_timeout"),
            socket_connect_timeout=self._seconds("socket_connect_timeout"),
            client_name=query.get("client_name"),
            ssl=self._flag("ssl") or False,
            ssl_cert_reqs=self._certificate_check(),
            ssl_check_hostname=self._flag("ssl_check_hostname"),
            ssl_ca_certs=query.get("ssl_ca_certs"),
            ssl_ca_path=query.get("ssl_ca_path"),
            ssl_certfile=query.get("ssl_certfile"),
            ssl_keyfile=query.get("ssl_keyfile"),
            sentinel_username=query.get("sentinel_username"),
            sentinel_password=query.get("sentinel_password"),
        )
        if not (options.ssl or self._kind == "tls") and _TLS & query.keys():
            self._fail("the ssl_ options need ssl=true")
        return options

    def _seconds(self, name: str) -> float | None:
        text = self._query.get(name)
        if text is None:
            return None
        seconds = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else math.nan
        if not seconds > 0:
            self._fail(f"the option {name} must be a number of seconds above 0")
        return seconds

    def _flag(self, name: str) -> bool | None:
        text = self._query.get(name)
        if text is None:
            return None
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            self._fail(f"the option {name} must be true or false")
        return text.lower() in ("true", "1", "yes")

    def _certificate_check(self) -> CertificateCheck | None:
        text = self._query.get("ssl_cert_reqs")
        if text is not None and text not in _CERTIFICATE_CHECKS:
            self._fail("the option ssl_cert_reqs must be required, optional or none")
        return None if text is None else _CERTIFICATE_CHECKS[text]

    def _decoded(self, text: str, *, plus_is_space: bool = False) -> str:
        try:
            decoded = unquote_plus(text, errors="strict") if plus_is_space else unquote(text, errors="strict")
        except UnicodeDecodeError:
            self._fail("a percent-encoded part is not UTF-8")
        if "\0" in decoded:
            self._fail("it contains a NUL character")
        return decoded


def _whole_number(text: str) -> int | None:
    """The number that one to nine ASCII digits stand for, else None; `int` would accept signs and blanks."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
