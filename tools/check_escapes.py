"""Check that every way out of the type system or the linter in src/ is listed with a reason.

The ways out are `Any`, `cast`, `no_type_check`, and comments that silence a checker (`type: ignore`, `noqa`
and the file-wide forms of mypy, pyright and ruff). Each stands in docs/internals/typing-allowlist.toml with
the file, the symbol it is in (`Class.method`, or `<module>`), how many there are, and why it has to be:

    [[allow]]
    file = "src/redflow/domain/payload.py"
    symbol = "decode"
    escape = "Any"
    count = 1
    reason = "orjson.loads is typed Any; the value is checked in the next line"

The check fails when there are more than listed, and when the list allows more than there are.

usage: check_escapes.py [--root DIRECTORY]
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ALLOWLIST = "docs/internals/typing-allowlist.toml"
TYPING_MODULES = {"typing", "typing_extensions"}
TYPING_ESCAPES = {"Any", "cast", "no_type_check"}
COMMENT_ESCAPES = {
    "type: ignore": re.compile(r"#\s*type:\s*ignore"),
    "noqa": re.compile(r"#\s*(ruff:\s*)?noqa", re.IGNORECASE),
    "mypy:": re.compile(r"#\s*mypy:"),
    "pyright:": re.compile(r"#\s*pyright:"),
}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A kind of escape in one symbol of one file."""

    file: str
    symbol: str
    escape: str

    def __str__(self) -> str:
        return f"{self.file}: {self.symbol}: {self.escape}"


@dataclass(slots=True)
class Found:
    """What a scan found: how often each place escapes, and on which lines."""

    counts: Counter[Place] = field(default_factory=Counter)
    lines: dict[Place, list[int]] = field(default_factory=dict)

    def add(self, place: Place, line: int) -> None:
        """Count one escape."""
        self.counts[place] += 1
        self.lines.setdefault(place, []).append(line)


class _EscapeVisitor(ast.NodeVisitor):
    """Finds uses of typing's escapes by any name they were imported under, in quoted annotations too."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.modules: set[str] = set()
        self.uses: list[tuple[str, int]] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name in TYPING_MODULES:
                self.modules.add(alias.asname or alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module in TYPING_MODULES:
            for alias in node.names:
                if alias.name in TYPING_ESCAPES:
                    self.names[alias.asname or alias.name] = alias.name

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.names:
            self.uses.append((self.names[node.id], node.lineno))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = node.value
        if node.attr in TYPING_ESCAPES and isinstance(owner, ast.Name) and owner.id in self.modules:
            self.uses.append((node.attr, node.lineno))
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_quoted(node.annotation)
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        self._visit_quoted(node.annotation)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_quoted(node.returns)
        self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_quoted(node.returns)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        # The type that cast() is given may be quoted as well.
        if node.args and isinstance(node.func, ast.Name) and self.names.get(node.func.id) == "cast":
            self._visit_quoted(node.args[0])
        self.generic_visit(node)

    def _visit_quoted(self, annotation: ast.expr | None) -> None:
        for part in ast.walk(annotation) if annotation is not None else ():
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                try:
                    inner = ast.parse(part.value, mode="eval")
                except SyntaxError:
                    continue  # an ordinary string, as in Literal["a b"]
                for child in ast.walk(inner):
                    if isinstance(child, (ast.Name, ast.Attribute)):
                        ast.copy_location(child, part)
                self.visit(inner)


def _symbols(tree: ast.Module) -> list[tuple[int, int, str]]:
    """Return (first line, last line, qualified name) of every def and class, outer ones first."""
    spans: list[tuple[int, int, str]] = []

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = f"{prefix}.{child.name}" if prefix else child.name
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                spans.append((first, child.end_lineno or child.lineno, name))
            walk(child, name)

    walk(tree, "")
    return spans


def _comment_escapes(source: str) -> Iterator[tuple[str, int]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            for escape, pattern in COMMENT_ESCAPES.items():
                if pattern.search(token.string):
                    yield escape, token.start[0]


def scan_file(path: Path, name: str, found: Found) -> None:
    """Add the escapes of one Python file, reported under `name`, to `found`."""
    source = path.read_text("utf-8")
    tree = ast.parse(source, filename=name)
    visitor = _EscapeVisitor()
    visitor.visit(tree)
    spans = _symbols(tree)
    for escape, line in [*visitor.uses, *_comment_escapes(source)]:
        around = [symbol for first, last, symbol in spans if first <= line <= last]
        found.add(Place(name, around[-1] if around else "<module>", escape), line)


def scan(root: Path) -> Found:
    """Return the escapes of every Python file below `root`/src."""
    found = Found()
    for path in sorted((root / "src").rglob("*.py")):
        scan_file(path, path.relative_to(root).as_posix(), found)
    return found


def read_allowlist(path: Path) -> Counter[Place]:
    """Return how many escapes the list allows at each place.

    Raises ValueError naming the entry that has a missing or unknown key, no reason, or stands there twice.
    """
    allowed: Counter[Place] = Counter()
    keys = {"file", "symbol", "escape", "count", "reason"}
    for number, entry in enumerate(tomllib.loads(path.read_text("utf-8")).get("allow", []), start=1):
        where = f"{path.name}: entry {number}"
        if set(entry) != keys:
            raise ValueError(f"{where}: has {', '.join(sorted(entry))}; needs {', '.join(sorted(keys))}")
        place = Place(entry["file"], entry["symbol"], entry["escape"])
        if not str(entry["reason"]).strip():
            raise ValueError(f"{where}: {place}: a reason is required")
        if not isinstance(entry["count"], int) or entry["count"] < 1:
            raise ValueError(f"{where}: {place}: count must be a whole number of at least 1")
        if place in allowed:
            raise ValueError(f"{where}: {place}: is listed twice; add up the counts")
        allowed[place] = entry["count"]
    return allowed


def compare(found: Found, allowed: Counter[Place]) -> list[str]:
    """Return one line for each place where what there is differs from what is allowed."""
    problems: list[str] = []
    for place in sorted(set(found.counts) | set(allowed)):
        there, listed = found.counts[place], allowed[place]
        if there > listed:
            lines = ", ".join(map(str, found.lines[place]))
            problems.append(f"{place}: {there} (line {lines}), allowed: {listed}")
        elif there < listed:
            problems.append(f"{place}: the list allows {listed}, there are {there}: lower or remove the entry")
    return problems


def main(arguments: list[str]) -> int:
    """Run the check; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check the list of typing and lint escapes in src/.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root: Path = parser.parse_args(arguments).root
    try:
        allowed = read_allowlist(root / ALLOWLIST)
    except (OSError, ValueError) as error:
        print(f"check_escapes: {error}", file=sys.stderr)
        return 1
    found = scan(root)
    problems = compare(found, allowed)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(
            f"check_escapes: write it without the escape, or list it with a reason in {ALLOWLIST}",
            file=sys.stderr,
        )
        return 1
    print(f"check_escapes: {found.counts.total()} escapes, all listed with a reason")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
