"""Voila for this project: the notebooks for an audience, without their code, and nothing from the network."""

import re

c = get_config()  # noqa: F821  (Jupyter puts it there)


def prepare(handler, notebook, cwd):
    """A check's verdict on a blank is nothing to show; its cell still runs, for what it imports.

    And the page gets a token, without which its goodbye would be refused, and its kernel live on.
    """
    assert handler.xsrf_token  # to ask for it sets the cookie
    for cell in notebook.cells:
        if cell.cell_type == "code" and re.search(r"^check_\w+\(.*\Z", cell.source, re.MULTILINE):
            cell.source = f"%%capture\n{cell.source}"
    return notebook


c.VoilaConfiguration.template = "present"  # in templates/ beside this file
c.VoilaConfiguration.classic_tree = True  # a plain list of the notebooks, not JupyterLab's file browser
# Only what draws widgets: JupyterLab's other extensions ask for more than Voila has, and complain.
c.VoilaConfiguration.extension_allowlist = [
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
    "anywidget",
]
c.VoilaConfiguration.prelaunch_hook = prepare
