"""axe-core on a page or a part of it: what is in the way of those who use a screen reader or a keyboard."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

SERIOUS = ("serious", "critical")


def axe(
    page: Page, context: str | list | dict | None = None, impacts: tuple[str, ...] = SERIOUS
) -> list[str]:
    """The violations of these impacts: rule, help, and the elements concerned.

    Args:
        page: the page as it is now; what is hidden is not looked at.
        context: a CSS selector, which must match something, or what else axe-core takes; None: everything.
        impacts: of "minor", "moderate", "serious", "critical".
    """
    if isinstance(context, str):
        assert page.locator(context).count(), f"nothing on the page matches {context!r}"
    found = Axe().run(page, context).response["violations"]
    return [_words(violation) for violation in found if violation["impact"] in impacts]


def _words(violation: dict) -> str:
    where = "; ".join(f"{node['html'][:160]} ({node['failureSummary']})" for node in violation["nodes"][:5])
    return f"{violation['id']} ({violation['impact']}): {violation['help']}: {where}"
