"""How Sphinx builds the documentation: ``make docs``."""

import configparser
from pathlib import Path

import flask_task_context

ROOT = Path(__file__).parent.parent


def project_urls() -> dict[str, str]:
    """Where the project is: setup.cfg alone knows."""
    setup = configparser.RawConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["metadata"]["project_urls"].strip().splitlines()
    return dict(map(str.strip, line.split("=", 1)) for line in lines)


project = "flask-task-context"
version = release = flask_task_context.__version__
html_title = f"{project} {version}"
html_baseurl = project_urls()["Documentation"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "requirements.txt"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
# [examples](source:examples/README.md) is a file of the repository.
myst_url_schemes = {
    **dict.fromkeys(("http", "https", "mailto")),
    "source": {"url": project_urls()["Source"] + "blob/main/{{path}}"},
}
myst_enable_extensions = ["attrs_block", "deflist"]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

# What stands on other sites. An inventory of theirs would want the network.
nitpick_ignore_regex = [
    ("py:.*", r"(builtins|celery|flask|t|typing)\..*"),
    ("py:.*", r"(~|flask_task_context\.)(_\w+|[TPR])"),
]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_use_index = False
html_domain_indices = False
html_theme_options = {
    "source_view_link": project_urls()["Source"] + "blob/main/docs/{filename}",
}
pygments_style = "default"
pygments_dark_style = "github-dark"

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
