"""Check the Lua scripts of the Redis engine and of r7kit's records: headers, includes, sizes, syntax, globals.

A verb, lua/<verb>.lua, is one change of state and opens with its contract:

    -- verb: claim_runs
    -- purpose: one line
    -- keys: 1 ready, 2 leases
    -- args: limit, now
    -- item: run_id, worker
    -- replies: claimed, with id and input of each run; empty: nothing was ready

`none` stands for no keys or args. `item`, which may be absent, names the arguments that repeat after `args`;
a remark in parentheses may follow a name. A key that repeats ends in `...` and comes last. A line that starts
with `--` and two or more spaces continues `purpose` or `replies`.

An include, lua/lib/<function>.lua, defines exactly one local function, named like its file; above it may stand tables
that it keeps for one call of the script. A line `-- include: name` pulls it in, in verbs and in other includes; a file
names every include whose function or tables it uses itself.

The syntax is checked with luac and the globals with luacheck (against .luacheckrc) where these programs are
installed; a part that cannot be checked is said so, and is an error with --strict.

usage: lint_lua.py [--strict] [--root DIRECTORY]
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LUA_DIRECTORY = "src/redflow/engines/redis/lua"
LUA_DIRECTORIES = (LUA_DIRECTORY, "src/r7kit/records/lua")
HEADER_FIELDS = ("verb", "purpose", "keys", "args", "item", "replies")
OPTIONAL_FIELDS = {"item"}
CONTINUED_FIELDS = {"purpose", "replies"}
MAX_VERB_LINES = 120
MAX_INCLUDE_LINES = 40
ORDER = f"(order: {', '.join(HEADER_FIELDS)})"

HEADER_LINE = re.compile(r"--\s?(?P<field>[a-z]+):\s*(?P<text>.*)")
CONTINUATION = re.compile(r"--\s{2,}(?P<text>\S.*)")
INCLUDE_LINE = re.compile(r"\s*--\s*include:\s*(?P<name>\S*)\s*")
KEY_ENTRY = re.compile(r"(?P<number>\d+) (?P<name>[a-z][a-z0-9_]*)(?P<repeats>\.\.\.)?")
ARG_ENTRY = re.compile(r"(?P<name>[a-z][a-z0-9_]*)( \([^()]*\))?")
LOCAL_FUNCTION = re.compile(r"^local\s+function\s+([A-Za-z_]\w*)", re.MULTILINE)
TABLE = re.compile(r"^local (\w+) = \{", re.MULTILINE)
TOP_LEVEL_STATEMENT = re.compile(r"^[A-Za-z]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a Lua file."""

    path: Path
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Header:
    """A verb's contract: the text of each field, and the line each is on."""

    fields: dict[str, str]
    lines: dict[str, int]


def parse_header(source: str) -> Header:
    """Read the contract at the top of a verb; fields that are missing are absent in the result."""
    fields: dict[str, str] = {}
    lines: dict[str, int] = {}
    current: str | None = None
    for number, line in enumerate(source.splitlines(), start=1):
        if not line.startswith("--"):
            break
        continued = CONTINUATION.fullmatch(line)
        if continued is not None and current in CONTINUED_FIELDS:
            fields[current] = f"{fields[current]} {continued['text'].strip()}"
            continue
        match = HEADER_LINE.fullmatch(line)
        if match is None or match["field"] not in HEADER_FIELDS or match["field"] in fields:
            break
        current = match["field"]
        fields[current], lines[current] = match["text"].strip(), number
    return Header(fields, lines)


def _entries(text: str) -> list[str]:
    return [] if text == "none" else [entry.strip() for entry in text.split(",")]


def _check_names(path: Path, header: Header, name: str) -> Iterator[Problem]:
    """Check the entries of the `keys`, `args` or `item` field."""
    line = header.lines[name]
    seen: set[str] = set()
    entries = _entries(header.fields[name])
    for position, entry in enumerate(entries, start=1):
        match = (KEY_ENTRY if name == "keys" else ARG_ENTRY).fullmatch(entry)
        if match is None:
            form = "`1 name` or `1 name...`" if name == "keys" else "`name`"
            yield Problem(path, line, f"{name}: {entry!r} is not of the form {form}")
            continue
        if match["name"] in seen:
            yield Problem(path, line, f"{name}: {match['name']!r} stands there twice")
        seen.add(match["name"])
        if name == "keys" and int(match["number"]) != position:
            yield Problem(path, line, f"keys: {entry!r} stands at place {position}")
        if name == "keys" and match["repeats"] and position != len(entries):
            yield Problem(path, line, f"keys: {entry!r} repeats and must come last")


def _check_indices(path: Path, source: str, header: Header) -> Iterator[Problem]:
    """Check that KEYS[n] and ARGV[n] with a literal n are within the contract."""
    limits: dict[str, int] = {}
    if not header.fields["keys"].endswith("..."):
        limits["KEYS"] = len(_entries(header.fields["keys"]))
    if "item" not in header.fields:
        limits["ARGV"] = len(_entries(header.fields["args"]))
    for number, line in _code_lines(source):
        for variable, index in re.findall(r"\b(KEYS|ARGV)\[(\d+)\]", line):
            if variable in limits and not 1 <= int(index) <= limits[variable]:
                yield Problem(path, number, f"{variable}[{index}], but the header declares {limits[variable]}")


def _code_lines(source: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(source.splitlines(), start=1):
        if not line.lstrip().startswith("--"):
            yield number, line


def check_header(path: Path, source: str) -> Iterator[Problem]:
    """Yield what is wrong with a verb's contract header."""
    header = parse_header(source)
    missing = [name for name in HEADER_FIELDS if not header.fields.get(name) and name not in OPTIONAL_FIELDS]
    if missing:
        yield Problem(path, 1, f"the contract header lacks: {', '.join(missing)} {ORDER}")
        return
    if list(header.fields) != [name for name in HEADER_FIELDS if name in header.fields] or header.lines["verb"] != 1:
        yield Problem(path, 1, f"the contract header must open the file, in order {ORDER}")
    if header.fields["verb"] != path.stem:
        yield Problem(path, 1, f"verb: is {header.fields['verb']!r}, the file is named {path.stem!r}")
    for name in ("keys", "args", "item"):
        if name in header.fields:
            yield from _check_names(path, header, name)
    yield from _check_indices(path, source, header)


def check_include_shape(path: Path, source: str) -> Iterator[Problem]:
    """Yield what is wrong with an include: it defines one local function of the file's name, nothing else."""
    functions = LOCAL_FUNCTION.findall(source)
    if functions != [path.stem]:
        got = ", ".join(functions) or "none"
        yield Problem(path, 1, f"must define exactly one local function, named {path.stem!r}; it defines: {got}")
    for match in TOP_LEVEL_STATEMENT.finditer(source):
        rest = source[match.start() :]
        if not re.match(r"(local\s+function|end)\b|local\s+\w+ = \{", rest):
            line = source.count("\n", 0, match.start()) + 1
            yield Problem(path, line, "an include holds nothing but its function and tables of its own")


def includes(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of each include line."""
    for number, line in enumerate(source.splitlines(), start=1):
        match = INCLUDE_LINE.fullmatch(line)
        if match is not None:
            yield number, match["name"]


class LuaTree:
    """The Lua files below one directory, and the checks on them."""

    def __init__(self, directory: Path) -> None:
        self.library = {path.stem: path for path in sorted((directory / "lib").glob("*.lua"))}
        self.verbs = sorted(directory.glob("*.lua"))
        self.sources = {path: path.read_text("utf-8") for path in [*self.verbs, *self.library.values()]}
        self.strays = sorted(set(directory.rglob("*.lua")) - set(self.sources))

    def check(self) -> Iterator[Problem]:
        """Yield everything wrong that needs no other program."""
        for path in self.strays:
            yield Problem(path, 1, "belongs into lua/ (a verb) or lua/lib/ (an include)")
        for path, source in self.sources.items():
            verb = path in self.verbs
            count, limit = len(source.splitlines()), MAX_VERB_LINES if verb else MAX_INCLUDE_LINES
            if count > limit:
                yield Problem(path, limit + 1, f"has {count} lines, the limit is {limit}")
            yield from check_header(path, source) if verb else check_include_shape(path, source)
            yield from self._check_includes(path, source)
        used = {name for source in self.sources.values() for _, name in includes(source)}
        for name, path in self.library.items():
            if name not in used:
                yield Problem(path, 1, "is included by no script")

    def _check_includes(self, path: Path, source: str) -> Iterator[Problem]:
        seen: set[str] = set()
        words = set(re.findall(r"\w+", "\n".join(text for _, text in _code_lines(source))))
        for line, name in includes(source):
            if name not in self.library:
                yield Problem(path, line, f"include: there is no lib/{name}.lua")
            elif name in seen:
                yield Problem(path, line, f"include: {name} is pulled in twice")
            elif words.isdisjoint([name, *self.tables(name)]):
                yield Problem(path, line, f"include: {name} is not used here")
            elif path in self.reach(name):
                yield Problem(path, line, f"include: {name} includes this file again")
            seen.add(name)

    def tables(self, name: str) -> list[str]:
        """Return the tables that the include `name` keeps, which those that include it may use."""
        return TABLE.findall(self.sources[self.library[name]]) if name in self.library else []

    def reach(self, name: str) -> set[Path]:
        """Return the includes that `name` pulls in, directly or not, itself only if it goes in a circle."""
        found: set[Path] = set()
        waiting = [self.library[name]]
        while waiting:
            for _, other in includes(self.sources[waiting.pop()]):
                path = self.library.get(other)
                if path is not None and path not in found:
                    found.add(path)
                    waiting.append(path)
        return found


def luac() -> str | None:
    """Return a compiler for Lua 5.1, the language of Redis, if there is one."""
    for program in ("luac5.1", "luac", "luajit"):
        path = shutil.which(program)
        if path is None:
            continue
        version = subprocess.run([path, "-v"], check=False, capture_output=True, text=True)
        if program == "luajit" or "Lua 5.1" in version.stdout + version.stderr:
            return path
    return None


def check_syntax(compiler: str, paths: Iterable[Path]) -> Iterator[Problem]:
    """Yield the syntax errors that the compiler reports."""
    flags = ["-b"] if Path(compiler).name == "luajit" else ["-p"]
    for path in paths:
        command = [compiler, *flags, str(path), *(["/dev/null"] if flags == ["-b"] else [])]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        if result.returncode != 0:
            match = re.search(r":(\d+): (.*)", result.stderr)
            line, text = (int(match[1]), match[2]) if match else (1, result.stderr.strip())
            yield Problem(path, line, f"syntax: {text}")


def check_globals(tree: LuaTree, root: Path) -> Iterator[Problem]:
    """Yield what luacheck says of each file, given the functions that its include lines bring."""
    for path, source in tree.sources.items():
        command = ["luacheck", "--formatter", "plain", "--no-color", "--no-cache", "--codes"]
        command += ["--config", str(root / ".luacheckrc"), str(path)]
        brought = [name for _, name in includes(source)]
        if brought:
            command += ["--read-globals", *brought]
            command += ["--globals", *[table for name in brought for table in tree.tables(name)]]
        if path not in tree.verbs:
            command += ["--ignore", f"211/{path.stem}"]  # the function of an include is used elsewhere
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        for line in result.stdout.splitlines():
            match = re.match(r".*?:(\d+):\d+: (.*)", line)
            if match is not None:
                yield Problem(path, int(match[1]), match[2])
        if result.returncode > 2:
            yield Problem(path, 1, f"luacheck failed: {(result.stdout + result.stderr).strip()}")


def main(arguments: list[str]) -> int:
    """Run the checks; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check the Lua scripts of the Redis engine and of r7kit.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--strict", action="store_true", help="fail when luac or luacheck is not installed")
    options = parser.parse_args(arguments)
    root: Path = options.root
    trees = [LuaTree(root / directory) for directory in LUA_DIRECTORIES]
    problems = [problem for tree in trees for problem in tree.check()]
    missing: list[str] = []
    compiler = luac()
    if compiler is None:
        missing.append("the syntax is not checked: no luac5.1, luac (of Lua 5.1) or luajit is installed")
    else:
        problems += [problem for tree in trees for problem in check_syntax(compiler, tree.sources)]
    if shutil.which("luacheck") is None:
        missing.append("the globals are not checked: luacheck is not installed")
    else:
        problems += [problem for tree in trees for problem in check_globals(tree, root)]
    for problem in problems:
        print(f"{problem.path.relative_to(root)}:{problem.line}: {problem.text}", file=sys.stderr)
    for text in missing:
        print(f"lint_lua: note: {text} (Debian: apt-get install lua5.1 lua-check)", file=sys.stderr)
    if problems or (missing and options.strict):
        return 1
    verbs, library = sum(len(tree.verbs) for tree in trees), sum(len(tree.library) for tree in trees)
    print(f"lint_lua: {verbs} verbs and {library} includes are in order")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
