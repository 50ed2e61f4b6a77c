"""What ``make types`` takes for granted, when it checks types from the wheel."""

import ast
import inspect
import typing
from pathlib import Path

import pytest

import flask_task_context

ROOT = Path(__file__).parent.parent
FUNCTIONS = [
    name
    for name in flask_task_context.__all__
    if inspect.isfunction(getattr(flask_task_context, name))
]


def test_the_stub_is_the_module():
    """Type checkers read the module's own inline hints."""
    stub = ROOT / "flask_task_context-stubs" / "__init__.pyi"
    module = ROOT / "flask_task_context.py"
    assert stub.read_bytes() == module.read_bytes()


def test_every_public_name_is_checked():
    """The file that the type checkers read imports every public name, and no other."""
    tree = ast.parse((ROOT / "tests" / "typing" / "api.py").read_text())
    of_ours = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    of_ours = [n.names for n in of_ours if n.module == "flask_task_context"]
    assert [each.name for (each,) in of_ours] == sorted(flask_task_context.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_hints_can_be_read_at_run_time(name):
    """Tools that read hints at run time, such as Sphinx, find every type."""
    hints = typing.get_type_hints(getattr(flask_task_context, name))
    assert "return" in hints
