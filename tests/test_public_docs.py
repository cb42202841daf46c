"""Every public class and function has an example that runs, and states the errors that its own code raises."""

import ast
import builtins
import functools
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, is_typeddict

import pytest

from flamingo_blocks import errors

ROOT = Path(__file__).parents[1]
SURFACE: dict[str, list[str]] = json.loads((ROOT / "tests" / "api_surface.json").read_text())

# What no docstring can run in a moment, and the page or test that runs it.
EXAMPLE_ELSEWHERE = {
    "RayExecutor": "tests/ray/test_ray_executor.py",  # needs Ray
    "TransformersModel": "tests/evaluation/answering/test_transformers_model.py",  # needs a checkpoint
}

# Context managers that turn an error raised inside of them into one that they state.
TURNED = {"written_whole": "OSError"}

Definition = ast.ClassDef | ast.FunctionDef
LATER = ast.ClassDef | ast.FunctionDef | ast.Lambda  # written at one time, run at another
Helpers = Callable[[str], tuple[ast.FunctionDef, str] | None]
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
PUBLIC_BY_NAME = {member.__name__: member for member in MEMBERS.values()}


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
    found = found or PUBLIC_BY_NAME.get(name)
    return found if inspect.isclass(found) and issubclass(found, BaseException) else None


def raised(nodes: Iterable[ast.AST], module: str, helpers: Helpers) -> set[type[BaseException]]:
    """The classes `X` of every `raise X(...)` in some code and in the helpers that it calls.

    What the code itself catches is left out, and so is what raises an error again, or one that a call gave.
    """
    return set().union(*(raised_in(node, module, helpers) for node in nodes if not isinstance(node, LATER)))


def raised_in(node: ast.AST, module: str, helpers: Helpers) -> set[type[BaseException]]:
    """As `raised`, of one statement or expression."""
    found: set[Any] = set()
    if isinstance(node, ast.Try):
        kinds = [kind for each in node.handlers if each.type for kind in getattr(each.type, "elts", [each.type])]
        found = without(raised(node.body, module, helpers), [ast.unparse(kind) for kind in kinds], module)
        return found | raised([*node.handlers, *node.orelse, *node.finalbody], module, helpers)
    if isinstance(node, ast.With):
        inside = raised(node.body, module, helpers)
        around = [getattr(item.context_expr, "func", None) for item in node.items]
        turned = [TURNED[name] for name in map(ast.unparse, filter(None, around)) if name in TURNED]
        return without(inside, turned, module) | raised((item.context_expr for item in node.items), module, helpers)
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        found = {exception_named(ast.unparse(node.exc.func), module)} - {None, NotImplementedError}
    if isinstance(node, ast.Call) and (helper := helpers(ast.unparse(node.func))):
        found |= raised(helper[0].body, helper[1], no_helpers)
    return found | raised(ast.iter_child_nodes(node), module, helpers)


def without(found: set[type[BaseException]], names: list[str], module: str) -> set[type[BaseException]]:
    """The classes that are none of those named, nor derived from them."""
    gone = tuple(kind for name in names if (kind := exception_named(name, module)))
    return {each for each in found if not issubclass(each, gone)}


def no_helpers(_: str) -> None:
    """Helpers of helpers are not looked into."""


def helpers_of(module: str, methods: Mapping[str, ast.FunctionDef]) -> Helpers:
    """What is looked into where it is called: private functions and methods, and the checks of other modules."""
    own = {name: node for name, node in definitions(module).items() if name[0] == "_"}
    own |= {f"{of}.{name}": each for name, each in methods.items() if name[0] == "_" for of in ("self", "cls")}

    def find(name: str) -> tuple[ast.FunctionDef, str] | None:
        if isinstance(node := own.get(name), ast.FunctionDef):
            return node, module
        check = getattr(importlib.import_module(module), name, None) if name.startswith(("check_", "refuse_")) else None
        if inspect.isfunction(check) and check.__module__.startswith("flamingo_blocks."):
            found = definitions(check.__module__).get(check.__name__)
            return (found, check.__module__) if isinstance(found, ast.FunctionDef) else None
        return None

    return find


def section(docstring: str, name: str) -> str:
    """The lines of a section of a docstring, without what they are indented by; empty if there is none."""
    found = [match["text"] for match in SECTION.finditer(docstring + "\n") if match["name"] == name]
    return inspect.cleandoc("\n" + "".join(found)) if found else ""


def named_in(docstring: str) -> list[str]:
    """The names in a `Raises:` section."""
    return re.findall(r"^([A-Za-z_.]+):", section(docstring, "Raises"), re.MULTILINE)


def stated(docstring: str, module: str) -> set[type[BaseException]]:
    """The exception classes of a `Raises:` section."""
    return {found for name in named_in(docstring) if (found := exception_named(name, module))} - {
        Exception,
        BaseException,
    }


def unstated(docstring: str, node: ast.FunctionDef, module: str, helpers: Helpers) -> str:
    """The classes that a function raises where neither they nor a base of theirs stand in a docstring."""
    says = tuple(stated(docstring, module))
    found = raised(node.body, module, helpers)
    return ", ".join(sorted(each.__name__ for each in found if not issubclass(each, says)))


def silent_errors(member: Any) -> dict[str, str]:
    """What a public class or function raises and does not state, by the function or method that does."""
    module, name = member.__module__, member.__name__
    node = definitions(module)[name]
    docstring = inspect.cleandoc(ast.get_docstring(node) or "")
    if isinstance(node, ast.FunctionDef):
        found = {name: unstated(docstring, node, module, helpers_of(module, {}))}
    else:
        methods = methods_of(node)
        helpers, found = helpers_of(module, methods), {}
        for called, method in methods.items():
            own = inspect.cleandoc(ast.get_docstring(method) or "")
            if called[0] != "_":
                found[called] = unstated(own, method, module, helpers)
            elif called.startswith("__"):  # what making, calling or indexing it raises may stand with the class
                found[called] = unstated(f"{docstring}\n\n{own}", method, module, helpers)
    return {called: silent for called, silent in found.items() if silent}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_public_name_has_an_example(name):
    """The docstring of each public class and function shows it in use; `test_docs_code.py` runs what is shown.

    Those few that no docstring can run show it all the same, and are run by the page or test that stands beside them.
    """
    shown = section(inspect.getdoc(MEMBERS[name]) or "", "Example")
    if elsewhere := EXAMPLE_ELSEWHERE.get(called := MEMBERS[name].__name__):
        assert "```python" in shown
        assert f"{called}(" in (ROOT / elsewhere).read_text()
    else:
        assert ">>> " in shown, "give it an `Example:` with a doctest"


@pytest.mark.parametrize("name", MEMBERS)
def test_a_public_name_states_its_errors(name):
    """What a public function, constructor or method raises itself stands in the `Raises:` of its docstring."""
    assert silent_errors(MEMBERS[name]) == {}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_public_name_tells_of_each_argument(name):
    """Every argument of a function, or of what makes an object, is named in front of the example."""
    member = MEMBERS[name]
    if inspect.isclass(member) and (issubclass(member, BaseException) or getattr(member, "_is_protocol", False)):
        return  # made by the library, and by nobody
    told = (inspect.getdoc(member) or "").partition("Example:")[0]
    if is_typeddict(member):
        named = list(member.__annotations__)
    else:
        taken = inspect.signature(member).parameters.values()
        named = [each.name for each in taken if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    assert [each for each in named if not re.search(rf"\b{each}\b", told)] == []


@pytest.mark.parametrize("name", [name for name, member in MEMBERS.items() if inspect.isclass(member)])
def test_public_methods_are_documented(name):
    """Each public method and property that a public class writes says what it gives, or its base class does."""
    member = MEMBERS[name]
    node = definitions(member.__module__)[member.__name__]
    assert isinstance(node, ast.ClassDef)
    silent = [method for method in methods_of(node) if method[0] != "_" and not inspect.getdoc(getattr(member, method))]
    assert silent == []


@pytest.mark.parametrize("name", MEMBERS)
def test_stated_errors_are_exceptions(name):
    """What stands in a `Raises:` is an exception class by a name that the module, `errors` or Python knows."""
    member = MEMBERS[name]
    node = definitions(member.__module__)[member.__name__]
    parts = [node, *(methods_of(node).values() if isinstance(node, ast.ClassDef) else ())]
    names = [each for part in parts for each in named_in(inspect.cleandoc(ast.get_docstring(part) or ""))]
    assert [each for each in names if exception_named(each, member.__module__) is None] == []
