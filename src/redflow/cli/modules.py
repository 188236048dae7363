"""From MODULE on the command line to imported workflows.

MODULE is a dotted name (`shop.workflows`) or a path (`shop/workflows.py`, `./flows.py`, or a package's directory).
The current directory is importable, as it is for `python -m`. For a path, the directory above its outermost package
is importable too: of `src/shop/workflows.py`, where `src/shop` has an `__init__.py`, that is `src`, and the module is
`shop.workflows`.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from redflow.cli.exits import Refused
from redflow.cli.wire import ModuleName, NotStarted

_OURS: Final = (__file__, importlib.__file__)
_PACKAGE: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_INSTALLATION: Final = tuple(
    os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


# --- in the command: what is meant ------------------------------------------------------------------------------


def locate(argument: str) -> ModuleName:
    """What a MODULE argument means; a path must exist, a name is not looked up.

    Raises:
        Refused: the path does not exist or is no module; the name can't be a module's.
    """
    if argument.endswith(".py") or "/" in argument or os.sep in argument or argument == ".":
        return _locate_path(argument)
    if not all(part.isidentifier() for part in argument.split(".")):
        hint = f" (did you mean {argument.replace(':', '.')}?)" if ":" in argument else ""
        raise Refused(f"{argument!r} is neither the name of a module, such as shop.workflows, nor a path{hint}")
    return ModuleName(argument)


def default_app(module: ModuleName) -> str:
    """The application's name when nobody gives one: the module's outermost package."""
    return module.name.partition(".")[0]


def _locate_path(argument: str) -> ModuleName:
    path = Path(argument).expanduser().resolve()
    if path.is_dir():
        path /= "__init__.py"
        if not path.is_file():
            raise Refused(f"the directory {argument} is no package (it has no __init__.py); name a module in it")
    if not path.is_file():
        raise Refused(f"there is no file {argument}")
    if path.suffix != ".py":
        raise Refused(f"{argument} is no Python file (.py)")
    parts = [] if path.name == "__init__.py" else [path.stem]
    root = path.parent
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        parts.insert(0, root.name)
        root = root.parent
    if not parts or not all(part.isidentifier() for part in parts):
        raise Refused(f"{argument} can't be imported: its name must be letters, digits and _, as Python wants it")
    return ModuleName(".".join(parts), str(root), str(path))


# --- in the worker process: the import --------------------------------------------------------------------------


def import_modules(modules: Iterable[ModuleName]) -> NotStarted | None:
    """Import all modules, the current directory being on sys.path; returns why one can't be imported, else None."""
    _make_importable(os.getcwd())
    for module in modules:
        if module.root is not None:
            _make_importable(module.root)
        obstacle = _import(module)
        if obstacle is not None:
            return obstacle
    return None


def source_directories(modules: Iterable[ModuleName]) -> list[str]:
    """Directories whose Python files make up the program: of the modules, their packages, and what they imported.

    Left out is what belongs to the installation: the standard library and installed packages.
    """
    directories = {os.path.dirname(file) for file in _imported_files() if not _is_installed(file)}
    for module in modules:
        directories.update(_homes(module))
    return sorted(directory for directory in directories if os.path.isdir(directory))


def _make_importable(directory: str) -> None:
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _import(module: ModuleName) -> NotStarted | None:
    try:
        imported = importlib.import_module(module.name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and f"{module.name}.".startswith(f"{exc.name}."):
            where = f"neither in {os.getcwd()} nor installed" if exc.name == default_app(module) else "not found"
            return NotStarted("unknown_module", f"there is no module {module.name}: {exc.name} is {where}")
        return _broken(module, exc)
    except (Exception, SystemExit) as exc:
        return _broken(module, exc)
    found = getattr(imported, "__file__", None)
    if module.file is not None and (found is None or not os.path.samefile(found, module.file)):
        text = f"{module.file} can't be imported: the name {module.name} belongs to {found or 'Python itself'}"
        return NotStarted("unknown_module", text)
    return None


def _broken(module: ModuleName, exc: BaseException) -> NotStarted:
    report = traceback.TracebackException.from_exception(exc)
    frames = [frame for frame in report.stack if not _is_machinery(frame.filename)]
    report.stack = traceback.StackSummary.from_list(frames)
    lines = "".join(report.format_exception_only()).strip().splitlines()
    what = lines[-1 if isinstance(exc, SyntaxError) else 0]  # the source stands above a SyntaxError
    text = f"can't import {module.name}: {what}{_place(exc, frames)}"
    return NotStarted("broken_module", text, "".join(report.format()))


def _place(exc: BaseException, frames: list[traceback.FrameSummary]) -> str:
    if isinstance(exc, SyntaxError) and exc.filename is not None:
        return f" ({_shown(exc.filename)}, line {exc.lineno})"
    users = [frame for frame in frames if not frame.filename.startswith(_PACKAGE)]
    return f" ({_shown(users[-1].filename)}, line {users[-1].lineno})" if users else ""


def _shown(file: str) -> str:
    path = Path(file)
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file


def _is_machinery(file: str) -> bool:
    return file in _OURS or file.startswith("<frozen importlib")


def _homes(module: ModuleName) -> Iterable[str]:
    """Where a module's source is, or will be when somebody writes it; also for one that can't be imported."""
    top = importlib.machinery.PathFinder.find_spec(default_app(module))
    if top is None:
        return [os.getcwd()]
    if top.submodule_search_locations is not None:
        return [directory for path in top.submodule_search_locations for directory in _tree(path)]
    return [] if top.origin is None else [os.path.dirname(os.path.abspath(top.origin))]


def _tree(directory: str) -> Iterable[str]:
    """A package's directory and those below it that may hold modules."""
    for path, names, _ in os.walk(directory):
        names[:] = [name for name in names if name.isidentifier() and name not in ("__pycache__", "node_modules")]
        yield os.path.abspath(path)


def _imported_files() -> list[str]:
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return [os.path.abspath(file) for file in files if isinstance(file, str) and file.endswith(".py")]


def _is_installed(file: str) -> bool:
    return file.startswith((*_INSTALLATION, _PACKAGE)) or f"{os.sep}site-packages{os.sep}" in file
