"""The documentation's recipes, as an application would have them."""

from __future__ import annotations

import re
import types
from pathlib import Path

ROOT = Path(__file__).parents[2]


def readme_module(word: str, page: str = "README.md") -> types.ModuleType:
    """The page's one block of code in which the word is, as a module."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    [code] = [block for block in blocks if word in block]
    module = types.ModuleType(word)
    exec(code, vars(module))
    return module


def works_with_module(word: str) -> types.ModuleType:
    return readme_module(word, "docs/works-with.md")
