"""axe-core on a page or a part of it: what is in the way of those who use a screen reader or a keyboard."""

import json

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Locator, Page

SERIOUS = ("serious", "critical")


def axe(
    page: Page, context: str | list | dict | None = None, impacts: tuple[str, ...] = SERIOUS
) -> list[str]:
    """The violations of these impacts: rule, help, and the elements concerned.

    Args:
        page: the page as it is now; what is hidden is not looked at.
        context: a CSS selector, which must match something, or what axe-core takes; None: the whole page.
        impacts: of "minor", "moderate", "serious", "critical".
    """
    if isinstance(context, str):
        assert page.locator(context).count(), f"nothing on the page matches {context!r}"
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE_SCRIPT)  # half a megabyte: once for each page
    found = page.evaluate(
        """(context) => axe.run(context ?? document, { resultTypes: ['violations'] })
             .then((results) => JSON.stringify(results.violations))""",
        context,
    )
    return [_words(violation) for violation in json.loads(found) if violation["impact"] in impacts]


def violations(part: Locator) -> list[str]:
    """Those in a part of JupyterLab's page, brought into view: what is far off the screen it does not render.

    Its page has a body without a height, which axe-core takes for one that hides everything.
    """
    part.page.evaluate("() => { document.body.style.minHeight = '100vh'; }")
    part.scroll_into_view_if_needed()
    part.evaluate("e => e.setAttribute('data-looked-at', '')")
    try:
        return axe(part.page, "[data-looked-at]")
    finally:
        part.evaluate("e => e.removeAttribute('data-looked-at')")


def _words(violation: dict) -> str:
    where = "; ".join(f"{node['html'][:160]} ({node['failureSummary']})" for node in violation["nodes"][:5])
    return f"{violation['id']} ({violation['impact']}): {violation['help']}: {where}"
