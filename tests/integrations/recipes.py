"""The documentation's recipes, as an application would have them."""

from __future__ import annotations

import re
import types
import typing as t
from pathlib import Path

ROOT = Path(__file__).parents[2]


def recipe_module(word: str, page: str, **given: t.Any) -> types.ModuleType:
    """The one block of code of a how-to page in which the word is, as a module.

    :param given: what stands before it.
    """
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    [code] = [block for block in blocks if word in block]
    module = types.ModuleType(word)
    vars(module).update(given)
    exec(code, vars(module))
    return module
