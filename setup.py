"""What setup.cfg cannot say: the README for the package index, where no link of a
repository leads anywhere."""

import re
from configparser import RawConfigParser
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def for_the_index(readme: str) -> str:
    """Its links and pictures as addresses."""
    config = RawConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["metadata"]["project_urls"].strip().splitlines()
    urls = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines)

    def address(link: re.Match[str]) -> str:
        path = link[1]
        if re.match(r"https?:|#", path):
            return link[0]
        page = re.fullmatch(r"docs/(.*)\.md(#.*)?", path)
        if page:
            return f"]({urls['Documentation']}{page[1]}.html{page[2] or ''})"
        kind = "raw" if path.endswith(".svg") else "blob"
        return f"]({urls['Source']}{kind}/main/{path})"

    return re.sub(r"\]\(([^)\s]+)\)", address, readme)


setup(long_description=for_the_index((ROOT / "README.md").read_text("utf-8")))
