"""Debian's Chromium, driven by playwright, for the tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

# No sandbox, since tests may run as root; nothing that talks to a network by itself.
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    # A made camera and microphone, given without a question.
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip
_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


@dataclass
class Watched:
    """A page, and what it did that it should not have.

    Attributes:
        page: of playwright.
        trouble: lines of the console, errors, and requests for anything but files, its own data and
            what the server has that it is from.
    """

    page: Page
    trouble: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser; the test fails where there is none."""
    place = shutil.which("chromium")
    if place is None:
        pytest.fail("pages are tested in Chromium, which is missing: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=place, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser, address: str, width: int = 1280, scheme: str = "light"
) -> Iterator[Watched]:
    """A page of a browser without a past, which is looked after until it is closed."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, accept_downloads=True
    )  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(10_000)
    watched = Watched(page)
    page.on("console", lambda message: watched.trouble.append(message.text))
    page.on("pageerror", lambda error: watched.trouble.append(str(error)))
    own = ("file:", "data:", "blob:")
    if address.startswith("http"):
        own += ("/".join(address.split("/")[:3]) + "/",)
    page.on(
        "request",
        lambda request: request.url.startswith(own) or watched.trouble.append(request.url),
    )
    page.goto(address)
    yield watched
    context.close()


def inaccessible(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA, contrast among it."""
    found = Axe().run(page, options={"runOnly": list(_RULES)}).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]
