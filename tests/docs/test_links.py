"""Links lead somewhere, and every page can be found."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import PAGES, ROOT, anchors_of, links_of


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_resolve(page: str) -> None:
    for line, target in links_of(page):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.resolve().is_relative_to(ROOT), f"{page}:{line}: {target} leads out of the repository"
        assert linked.exists(), f"{page}:{line}: there is no {target}"
        if anchor:
            name = linked.resolve().relative_to(ROOT).as_posix()
            assert anchor in anchors_of(name), f"{page}:{line}: {name} has no heading #{anchor}"


def test_index_lists_every_page() -> None:
    listed = {(ROOT / "docs" / target).resolve() for _, target in links_of("docs/index.md")}
    pages = {(ROOT / page).resolve() for page in PAGES if page.startswith("docs/") and page != "docs/index.md"}
    assert pages <= listed, sorted(str(page.relative_to(ROOT)) for page in pages - listed)


def test_site_has_every_page() -> None:
    listed = re.findall(r"^ +- ([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    assert sorted(f"docs/{page}" for page in listed) == [page for page in PAGES if page.startswith("docs/")]


def test_decisions_are_numbered_and_listed() -> None:
    decisions = sorted(page for page in PAGES if page.startswith("docs/decisions/0"))
    numbers = [int(page.removeprefix("docs/decisions/")[:4]) for page in decisions]
    assert numbers == sorted(set(numbers)), "a number is given once; branches that grow beside each other leave gaps"
    for page in decisions:
        number = page.removeprefix("docs/decisions/")[:4]
        text = (ROOT / page).read_text("utf-8")
        assert text.startswith(f"# {number}: "), page
        for part in ("**Context.**", "**Choice.**", "**Cost.**"):
            assert part in text, f"{page} has no {part}"
