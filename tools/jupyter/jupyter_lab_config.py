"""JupyterLab for this project: its style; nothing asks the network for news, updates or extensions."""

import importlib.util
import pathlib

c = get_config()  # noqa: F821  (Jupyter puts it there)

c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.handlers.announcements.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
c.LabApp.custom_css = True
library = pathlib.Path(importlib.util.find_spec("accum_lib").origin).parent
styles = [pathlib.Path(__file__).parent / "custom", library / "lessons" / "kit" / "static"]
c.ServerApp.tornado_settings = {"static_custom_path": [str(folder) for folder in styles]}
