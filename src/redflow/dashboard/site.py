"""One dashboard: its client, what it may do, and how its pages are made."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import urlencode

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup
from starlette.datastructures import QueryParams

from redflow import __version__
from redflow.client import RedflowClient
from redflow.dashboard import charts, text
from redflow.dashboard.ports import TaskSource
from redflow.dashboard.states import shown_state, shown_status
from redflow.errors import ConnectionError, LimitExceededError, PayloadDecodeError, RedflowError
from redflow.types import JsonValue

log = logging.getLogger("redflow")

SECTIONS: Final = (
    ("overview", "Overview", "", "o"),
    ("runs", "Runs", "runs", "r"),
    ("workflows", "Workflows", "workflows", "w"),
    ("events", "Events", "events", "e"),
    ("schedules", "Schedules", "schedules", "s"),
    ("workers", "Workers", "workers", "k"),
    ("tasks", "Tasks", "tasks", "t"),
    ("health", "Health", "health", "h"),
)
"""Name, title, path and key (after g) of each screen of the navigation."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page is asked for: the parts of its path, and its query."""

    path: Mapping[str, str]
    query: QueryParams

    def text(self, name: str) -> str | None:
        """A parameter without surrounding white space; None if it is missing or blank."""
        return self.query.get(name, "").strip() or None

    def exact(self, name: str) -> str:
        """A parameter as it was sent; "" if it is missing."""
        return self.query.get(name, "")


@dataclass(slots=True)
class Page:
    """A page as a screen makes it.

    Attributes:
        title: of the page.
        template: renders its inside.
        context: what the template needs.
        section: of the navigation.
        status: HTTP status.
        live: whether it is kept up to date.
    """

    title: str
    template: str
    context: dict[str, object] = field(default_factory=dict)
    section: str = ""
    status: int = 200
    live: bool = True


class Missing(Exception):
    """There is no such thing; the text says what, and why it may be gone."""


class Refused(Exception):
    """What was asked for can't be done; the text says why."""


Screen: TypeAlias = Callable[["Site", Asked], Awaitable[Page]]
"""Makes the page of one path."""


class Site:
    """What all pages of one dashboard have in common.

    Args:
        client: of the prefix that is shown.
        actions: whether anything may be changed.
        mask: keys (lower case) whose values are hidden in payloads; "*" hides payloads whole.
        tasks: where task records are read.
    """

    def __init__(self, client: RedflowClient, *, actions: bool, mask: frozenset[str], tasks: TaskSource | None) -> None:
        self.client = client
        self.actions = actions
        self.mask = mask
        self.tasks = tasks
        self.templates = _environment(self)

    async def page(self, screen: Screen, asked: Asked, section: str) -> Page:
        """The page of a screen; what goes wrong becomes a page that says so, never one that looks empty."""
        try:
            return await screen(self, asked)
        except Missing as exc:
            return _trouble("Not found", str(exc), section, 404)
        except (ConnectionError, OSError) as exc:
            return _trouble("The server can't be reached", f"{exc}", section, 503)
        except PayloadDecodeError as exc:
            return _trouble("It can't be decrypted here", str(exc), section, 422)
        except (ValueError, LimitExceededError) as exc:
            return _trouble("That can't be shown", str(exc), section, 400)
        except RedflowError as exc:
            return _trouble("The server refused", str(exc), section, 502)
        except Exception as exc:
            log.exception("dashboard: a page failed")
            return _failed(exc, section)

    def inside(self, page: Page, base: str) -> str:
        """The inside of a page, without the frame; if it can't be drawn, `page` becomes one that says so."""
        try:
            return self._drawn(page, base)
        except Exception as exc:
            log.exception("dashboard: a page can't be drawn")
            failed = _failed(exc, page.section)
            page.title, page.template = failed.title, failed.template
            page.context, page.status = failed.context, failed.status
            return self._drawn(page, base)

    def _drawn(self, page: Page, base: str) -> str:
        return self.templates.get_template(page.template).render(page.context, page=page, base=base)

    def whole(self, page: Page, base: str, *, at: str, token: str, signed_in: bool) -> str:
        """A page with its frame.

        Args:
            page: the page.
            base: path below which the dashboard is mounted.
            at: its path and query below that.
            token: against forged requests; goes with every action.
            signed_in: whether there is a session that can be ended.
        """
        inside = self.inside(page, base)
        return self.templates.get_template("base.html").render(
            page=page,
            base=base,
            at=at,
            inside=Markup(inside),  # rendered, and so escaped, by the line above
            digest=digest(inside),
            token=token,
            signed_in=signed_in,
        )

    def hidden(self, value: JsonValue) -> JsonValue:
        """A payload with what is to be masked hidden."""
        return text.masked(value, self.mask)


def digest(inside: str) -> str:
    """Tells whether the inside of a page has changed."""
    return hashlib.blake2b(inside.encode("utf-8", "replace"), digest_size=12).hexdigest()


def _failed(exc: Exception, section: str) -> Page:
    return _trouble("This page failed", f"{type(exc).__name__}; the log has the details", section, 500)


def _trouble(title: str, reason: str, section: str, status: int) -> Page:
    return Page(title, "trouble.html", {"reason": reason, "status": status}, section, status)


def _environment(site: Site) -> Environment:
    made = Environment(
        loader=PackageLoader("redflow.dashboard"),
        autoescape=True,
        undefined=ChainableUndefined,  # a stored error may lack anything
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.globals |= {
        "version": __version__,
        "sections": SECTIONS,
        "actions": site.actions,
        "prefix": site.client.prefix,
        "server": site.client.connection.address,
        "state_of": shown_state,
        "status_of": shown_status,
        "link": _link,
        "charts": charts,
        "masking": bool(site.mask),
        "hidden": site.hidden,
    }
    made.filters |= {
        "duration": text.duration,
        "coarse": text.coarse,
        "moment": text.moment,
        "count": text.count,
        "short": text.short_id,
        "one_line": text.one_line,
        "pretty": text.pretty,
        "cut": text.cut,
        "visible": text.visible,
    }
    return made


def _finalize(value: object) -> object:
    """Every text that reaches a page goes through here; what is Markup was made so by us."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return text.visible(value)
    return value


def _link(path: str, query: Mapping[str, object] | None = None, **changes: object) -> str:
    """A path with a query: the given one with some parameters changed; None and "" leave one out."""
    merged = {**(query or {}), **changes}
    kept = {name: str(value) for name, value in merged.items() if value not in (None, "")}
    return f"{path}?{urlencode(kept)}" if kept else path
