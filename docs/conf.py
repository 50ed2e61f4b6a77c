"""How Sphinx builds the documentation: ``make docs``."""

from importlib.metadata import metadata

import flask_task_context

project = "flask-task-context"
# Where the project is, as setup.cfg says it.
urls = dict(url.split(", ", 1) for url in metadata(project).get_all("Project-URL"))
version = release = flask_task_context.__version__
html_title = f"{project} {version}"
html_baseurl = urls["Documentation"]

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
    "source": {"url": urls["Source"] + "blob/main/{{path}}"},
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
    "source_view_link": urls["Source"] + "blob/main/docs/{filename}",
}
pygments_style = "default"
pygments_dark_style = "github-dark"

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
