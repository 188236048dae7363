"""The pages of the documentation: their code blocks, links and headings.

A block is told what to do with it by HTML comments right above its fence, which readers don't see:

    <!-- run: NAME INPUT -> OUTPUT -->  start a worker for the workflows of the block, run the one of that name with the
                                        input (JSON), and compare. OUTPUT is JSON, or `failed KIND`, or `canceled`.
    <!-- output -->                     this text block is what the block before it printed; `...` stands for anything
    <!-- background: TEXT -->           this shell block goes on running until the page ends, by Ctrl-C; wait for TEXT
    <!-- skip: REASON -->               this shell block is not executed
    <!-- file -->                       this program is saved, for a shell block to run it

Without a comment a `python` block is a program that must run and a `bash` block commands that must succeed. A program
whose first line is a comment with a file name (`# shop.py`) is saved under it; later blocks of the page may use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

PAGES: Final = tuple(
    sorted(
        path.relative_to(ROOT).as_posix()
        for path in (
            *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")),
            *(ROOT / "docs").rglob("*.md"),
        )
    )
)
"""Every page, by its path in the repository."""

LANGUAGES: Final = ("python", "bash", "", "text", "json", "toml", "lua", "mermaid", "markdown")
"""What may stand behind a fence; the first two are executed."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*)\s*$")
_COMMENT = re.compile(r"^<!-- (?P<word>run|output|background|skip|file)(?:: (?P<text>.*))? -->$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<text>.+?)\s*$")
_FILE_NAME = re.compile(r"# (?P<name>[a-z_0-9]+\.py)\Z")


class PageError(AssertionError):
    """A page is not written as this module wants it."""


@dataclass(slots=True)
class Block:
    """A fenced block.

    Attributes:
        page: path of its page in the repository.
        line: number of its first line, from 1.
        language: what stands behind the fence.
        text: its lines, with a newline at the end.
        comments: the words and texts of the comments above it.
    """

    page: str
    line: int
    language: str
    text: str
    comments: list[tuple[str, str]] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def file_name(self) -> str:
        """The name it is saved under: that of its first line, else one made of page and line."""
        match = _FILE_NAME.match(self.text.partition("\n")[0])
        if match is not None:
            return match["name"]
        return re.sub(r"\W+", "_", self.page.removesuffix(".md")).lower() + f"_{self.line}.py"

    def told(self, word: str) -> list[str]:
        """The texts of the comments with this word."""
        return [text for told, text in self.comments if told == word]


def read_page(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page.

    Raises:
        PageError: a fence is not closed or indented, or a comment stands above no block.
    """
    blocks: list[Block] = []
    comments: list[tuple[str, str]] = []
    open_block: Block | None = None
    for number, line in enumerate(read_page(page).splitlines(), start=1):
        fence = _FENCE.match(line)
        if open_block is not None:
            if fence is not None and not fence["language"]:
                blocks.append(open_block)
                open_block = None
            else:
                open_block.text += line + "\n"
        elif fence is not None:
            if fence["language"] not in LANGUAGES or (fence["indent"] and fence["language"] in LANGUAGES[:2]):
                raise PageError(f"{page}:{number}: an unknown language, or code that is indented")
            open_block = Block(page, number + 1, fence["language"], "", comments)
            comments = []
        elif (comment := _COMMENT.match(line)) is not None:
            comments = [*comments, (comment["word"], comment["text"] or "")]
        elif line.strip() and comments:
            raise PageError(f"{page}:{number}: a comment for a block must stand right above it")
    if open_block is not None:
        raise PageError(f"{open_block.place}: the fence is not closed")
    return blocks


def links_of(page: str) -> Iterator[tuple[int, str]]:
    """Line and target of every link outside of code."""
    lines = dict(_prose(page))
    text = "\n".join(lines.get(number, "") for number in range(1, max(lines) + 1))
    for match in _LINK.finditer(re.sub(r"`[^`\n]*`", "", text)):
        yield text.count("\n", 0, match.start()) + 1, match["target"]


def anchors_of(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    anchors: set[str] = set()
    for _, line in _prose(page):
        if (match := _HEADING.match(line)) is not None:
            text = re.sub(r"[^\w\- ]", "", match["text"].replace("`", "").lower())
            anchors.add(text.replace(" ", "-"))
    return anchors


def _prose(page: str) -> Iterator[tuple[int, str]]:
    inside = False
    for number, line in enumerate(read_page(page).splitlines(), start=1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line
