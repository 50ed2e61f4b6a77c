"""The README's recipes, as an application would have them."""

from __future__ import annotations

import re
import types
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def readme_module(word: str) -> types.ModuleType:
    """The README's one block of code in which the word is, as a module."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    [code] = [block for block in blocks if word in block]
    module = types.ModuleType(word)
    exec(code, vars(module))
    return module
