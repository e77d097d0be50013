"""A headless Chromium for tests of pages, and for the pictures in the documentation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip


def missing() -> str:
    """Say what a browser needs and lacks here, or nothing."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        return "needs Chromium: apt-get install chromium chromium-driver"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "needs selenium: pip install 'symgraph[dev]'"
    return ""


@contextmanager
def browser(
    profile: Path, size: tuple[int, int] = (1400, 900), dark: bool = False
) -> Iterator[Any]:
    """A browser with an empty profile; it keeps what pages write to the console."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"):
        options.add_argument(flag)
    if dark:
        options.add_argument("--blink-settings=preferredColorScheme=0")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})  # type: ignore[no-untyped-call]
    quiet = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": "/dev/null"}
    service = Service(shutil.which("chromedriver"), env=quiet)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()
