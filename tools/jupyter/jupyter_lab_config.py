"""JupyterLab for this project: nothing asks the network for news, updates or extensions."""

c = get_config()  # noqa: F821  (Jupyter puts it there)

c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.handlers.announcements.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
