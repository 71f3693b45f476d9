import ast
import importlib.metadata
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import trio_tlsdown

PUBLIC = {
    name: thing
    for name, thing in vars(trio_tlsdown).items()
    if not name.startswith("_") and not isinstance(thing, ModuleType)
}


def test_the_version_is_that_of_the_installed_package() -> None:
    assert trio_tlsdown.__version__ == importlib.metadata.version("trio-tlsdown")


def test_type_checkers_see_the_same_public_names_as_users() -> None:
    """To them an import is public only if it is written ``name as name``."""
    source = Path(trio_tlsdown.__file__).read_text(encoding="utf-8")
    exported = [
        alias.asname
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    ]
    assert sorted(exported) == sorted([*PUBLIC, "__version__"])


def _described(name: str, thing: object) -> Iterator[tuple[str, object]]:
    """A public thing and, if it is a class, its public methods and properties."""
    yield name, thing
    for owner in inspect.getmro(thing) if inspect.isclass(thing) else ():
        if owner.__module__.partition(".")[0] != "trio_tlsdown":
            continue
        for member_name, member in vars(owner).items():
            function = getattr(member, "__func__", member)  # of a class method
            if isinstance(function, FunctionType | property) and (
                not member_name.startswith("_")
            ):
                yield f"{name}.{member_name}", function


def test_everything_public_has_a_docstring() -> None:
    described = dict(
        item for name, thing in PUBLIC.items() for item in _described(name, thing)
    )
    assert "TLSStream.send_eof" in described
    assert "TLSStream.cipher" in described  # inherited
    assert "ShutdownReport.secure" in described  # a property
    # A context variable has its docstring in the source only.
    del described["peer_name"]
    assert [name for name, thing in described.items() if not thing.__doc__] == []
