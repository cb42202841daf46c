"""Every public class and function has an example that runs, and states the errors that its own code raises."""

import ast
import builtins
import functools
import importlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flamingo_blocks import errors

ROOT = Path(__file__).parents[1]
SURFACE: dict[str, list[str]] = json.loads((ROOT / "tests" / "api_surface.json").read_text())

# What no docstring can run in a moment, and the page or test that runs it.
EXAMPLE_ELSEWHERE: dict[str, str] = {}

Definition = ast.ClassDef | ast.FunctionDef
SECTION = re.compile(r"^(?P<name>[A-Z]\w*):\n(?P<text>(?:[ ].*\n|\n)*)", re.MULTILINE)


def public_members() -> Iterator[Any]:
    """The public classes and functions, each once, however many packages give it."""
    seen = set()
    for package, names in SURFACE.items():
        for name in names:
            member = getattr(importlib.import_module(package), name)
            if (inspect.isclass(member) or inspect.isfunction(member)) and id(member) not in seen:
                seen.add(id(member))
                yield member


def name_of(member: Any) -> str:
    """The module that a member is written in, and its name."""
    return f"{member.__module__}.{member.__qualname__}"


MEMBERS = {name_of(member): member for member in public_members()}


@functools.cache
def definitions(module: str) -> dict[str, Definition]:
    """The classes and functions that a module writes, by name."""
    path = inspect.getsourcefile(importlib.import_module(module))
    assert path is not None
    tree = ast.parse(Path(path).read_text())
    return {node.name: node for node in tree.body if isinstance(node, Definition)}


def methods_of(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """The methods that a class writes itself, by name."""
    return {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}


def exception_named(name: str, module: str) -> type[BaseException] | None:
    """The exception class that a module means by a name, or None where the name means something else."""
    found: Any = None
    for place in (importlib.import_module(module), errors, builtins):
        found = found or functools.reduce(lambda at, part: getattr(at, part, None), name.split("."), place)
    return found if inspect.isclass(found) and issubclass(found, BaseException) else None


def raised(node: ast.AST, module: str, helpers: Mapping[str, ast.FunctionDef]) -> set[type[BaseException]]:
    """The classes `X` of every `raise X(...)` in a body and in the private helpers that it calls.

    What the body itself catches is left out, and so is what raises an error again, or one that a call gave.
    """
    if isinstance(node, ast.Try):
        names = [ast.unparse(kind) for each in node.handlers if each.type for kind in getattr(each.type, "elts", [each.type])]
        caught = tuple(found for name in names if (found := exception_named(name, module)))
        inside = {each for part in node.body for each in raised(part, module, helpers) if not issubclass(each, caught)}
        return inside.union(*(raised(part, module, helpers) for part in [*node.handlers, *node.orelse, *node.finalbody]))
    found = set()
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        found |= {exception_named(ast.unparse(node.exc.func), module)} - {None, NotImplementedError}
    if isinstance(node, ast.Call) and (helper := helpers.get(ast.unparse(node.func))):
        found |= raised_in_body(helper, module, {})
    later = ast.FunctionDef | ast.ClassDef | ast.Lambda  # written here, run at another time
    return found.union(*(raised(part, module, helpers) for part in ast.iter_child_nodes(node) if not isinstance(part, later)))


def raised_in_body(node: ast.FunctionDef, module: str, helpers: Mapping[str, ast.FunctionDef]) -> set[type[BaseException]]:
    """As `raised`, of a whole function."""
    later = ast.FunctionDef | ast.ClassDef
    return set().union(*(raised(part, module, helpers) for part in node.body if not isinstance(part, later)))


def section(docstring: str, name: str) -> str:
    """The lines of a section of a docstring, without what they are indented by; empty if there is none."""
    found = [match["text"] for match in SECTION.finditer(docstring + "\n") if match["name"] == name]
    return inspect.cleandoc("\n" + "".join(found)) if found else ""


def stated(docstring: str, module: str) -> set[type[BaseException]]:
    """The exception classes of a `Raises:` section."""
    names = re.findall(r"^([A-Za-z_.]+):", section(docstring, "Raises"), re.MULTILINE)
    return {found for name in names if (found := exception_named(name, module))} - {Exception, BaseException}


def unstated(docstring: str, node: ast.FunctionDef, module: str, helpers: Mapping[str, ast.FunctionDef]) -> set[str]:
    """The classes that a function raises and neither they nor a base of theirs stand in its docstring."""
    says = tuple(stated(docstring, module))
    return {each.__name__ for each in raised_in_body(node, module, helpers) if not issubclass(each, says)}


def silent_errors(member: Any) -> list[str]:
    """What a public class or function raises and does not state, as `name: classes`."""
    module, written = member.__module__, definitions(member.__module__)
    helpers = {name: node for name, node in written.items() if name[0] == "_" and isinstance(node, ast.FunctionDef)}
    node = written[member.__name__]
    docstring = inspect.cleandoc(ast.get_docstring(node) or "")
    if isinstance(node, ast.FunctionDef):
        return [", ".join(sorted(missing))] if (missing := unstated(docstring, node, module, helpers)) else []
    methods = methods_of(node)
    helpers |= {f"{of}.{name}": each for name, each in methods.items() if name[0] == "_" for of in ("self", "cls")}
    found = []
    for name, method in methods.items():
        making = name in {"__init__", "__post_init__", "__new__"}
        if name[0] != "_" or making or (name[:2] == "__" and name != "__getattr__"):
            own = inspect.cleandoc(ast.get_docstring(method) or "")
            says = docstring if making else own or docstring
            if missing := unstated(says, method, module, helpers):
                found.append(f"{name}: {', '.join(sorted(missing))}")
    return found


@pytest.mark.parametrize("name", MEMBERS)
def test_a_public_name_has_an_example(name):
    """The docstring of each public class and function shows it in use; `test_docs_code.py` runs what is shown."""
    if name in EXAMPLE_ELSEWHERE:
        return
    docstring = inspect.getdoc(MEMBERS[name]) or ""
    assert ">>> " in section(docstring, "Example"), "give it an `Example:` with a doctest"


@pytest.mark.parametrize("name", MEMBERS)
def test_a_public_name_states_its_errors(name):
    """What a public function, constructor or method raises itself stands in the `Raises:` of its docstring."""
    assert silent_errors(MEMBERS[name]) == []


@pytest.mark.parametrize("name", [name for name, member in MEMBERS.items() if inspect.isclass(member)])
def test_public_methods_are_documented(name):
    """Each public method and property that a public class writes says what it gives, or its base class does."""
    member = MEMBERS[name]
    node = definitions(member.__module__)[member.__name__]
    assert isinstance(node, ast.ClassDef)
    silent = [method for method in methods_of(node) if method[0] != "_" and not inspect.getdoc(getattr(member, method))]
    assert silent == []
