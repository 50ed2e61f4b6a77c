"""The demo's page in a real browser: Chromium, with Debian's packages."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import presence_of_element_located
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait

from tests.conftest import ROOT
from tests.conftest import check_log
from tests.conftest import missing

HOST = "fest.example"
# What the page says at the end of a task, and the mail's subject.
LANGUAGES = {
    "en": ("Finished. Sent: 1 of 1", "Jörg invites you to a party"),
    "de": ("Fertig. Gesendet: 1 von 1", "Jörg lädt dich zum Fest ein"),
    "fr": ("Terminé. Envoyé : 1 sur 1", "Jörg t'invite à la fête"),
}
PHONE = (360, 740)
SWITCHES = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
]
# Every text with a contrast to its background that is too low to be read (WCAG AA).
PALE_TEXTS = """
function rgba(color) {
  return [...color.matchAll(/[\\d.]+/g), 1].slice(0, 4).map(Number);
}
function luminance(color) {
  const [r, g, b] = rgba(color).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function background(element) {
  const color = getComputedStyle(element).backgroundColor;
  return rgba(color)[3] === 0 ? background(element.parentElement) : color;
}
function contrast(element) {
  const [dark, light] = [getComputedStyle(element).color, background(element)]
    .map(luminance).sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}
return [...document.querySelectorAll("h1, h2, h3, p, label, input, textarea, button, a, dt, dd, code")]
  .filter(e => e.checkVisibility() && contrast(e) < 4.5)
  .map(e => e.outerHTML);
"""
SMALL_TARGETS = """
return [...document.querySelectorAll("a, button, input, textarea")]
  .filter(e => e.getBoundingClientRect().height < 44).map(e => e.outerHTML);
"""


def browser_programs() -> tuple[str, str]:
    """Chromium or Chrome, and its driver."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    return missing("no chromium and chromedriver (Debian: chromium, chromium-driver)")


class Demo:
    """``make demo-serve``"""

    def __init__(self, log: Path) -> None:
        ours = {k: v for k, v in os.environ.items() if not k.startswith("CELERY_")}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "examples.demo", "--serve", "--port=0"],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=ours,
            )
        deadline = time.monotonic() + 60
        while not (match := re.search(r"127\.0\.0\.1:(\d+)/ .*\n", log.read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no page in:\n{log.read_text()}")
            time.sleep(0.05)
        (folder,) = re.findall(r"in (\S+) until Ctrl-C", log.read_text())
        self.folder = Path(folder)
        self.host = f"{HOST}:{match[1]}"
        self.url = f"http://{self.host}/"

    def interrupt(self) -> int:
        """Press Ctrl-C."""
        check_log("".join(log.read_text() for log in self.folder.glob("*.log")))
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Demo]:
    browser_programs()
    running = Demo(tmp_path_factory.mktemp("demo") / "demo.log")
    yield running
    running.interrupt()


@contextlib.contextmanager
def browsing(
    profile: Path, language: str, *, javascript: bool = True
) -> t.Iterator[webdriver.Chrome]:
    """A new browser of a phone's size; its console must have no error at the end."""
    chromium, driver = browser_programs()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    own = [f"--user-data-dir={profile}", f"--accept-lang={language}"]
    for switch in [*SWITCHES, *own]:
        options.add_argument(switch)
    if not javascript:
        blocked = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", blocked)
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    width, height = PHONE
    screen = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}
    try:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        yield browser
        assert console_errors(browser) == []
    finally:
        browser.quit()


def console_errors(browser: webdriver.Chrome) -> list[str]:
    """The errors since the last call."""
    entries = browser.get_log("browser")
    return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


def wait_for_status(browser: webdriver.Chrome, text: str) -> None:
    wait_for(browser, lambda: text in "".join(texts(browser, "[role=status]")))


def wait_for(browser: webdriver.Chrome, condition: t.Callable[[], bool]) -> None:
    stale = [StaleElementReferenceException]  # of a page that has gone
    waiting = WebDriverWait(browser, 30, 0.1, ignored_exceptions=stale)
    waiting.until(lambda _: condition())


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    """Of each element, as the visitor sees it."""
    found = browser.find_elements(By.CSS_SELECTOR, selector)
    return [element.text for element in found]


def fill_in(browser: webdriver.Chrome, form: str, **fields: str) -> None:
    for name, value in fields.items():
        field = browser.find_element(By.ID, f"{form}-{name}")
        field.clear()
        field.send_keys(value)


def press(browser: webdriver.Chrome, selector: str) -> None:
    """Press the button or follow the link, to the next page."""
    element = browser.find_element(By.CSS_SELECTOR, selector)
    element.click()
    # For a moment the driver may say in words of its own that the element has gone.
    waiting = WebDriverWait(browser, 30, 0.1, ignored_exceptions=[WebDriverException])
    waiting.until(staleness_of(element))
    waiting.until(presence_of_element_located((By.TAG_NAME, "h1")))


def send(browser: webdriver.Chrome, form: str, **fields: str) -> None:
    fill_in(browser, form, **fields)
    press(browser, f"form:has(#{form}-name) button")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_visitor_sees_the_mail(demo: Demo, tmp_path: Path, language: str) -> None:
    """The mail has the visitor's host, language and name, and its link works."""
    finished, subject = LANGUAGES[language]
    with browsing(tmp_path, f"{language}-CH,{language}") as browser:
        browser.get(demo.url)
        page = browser.find_element(By.TAG_NAME, "html")
        assert page.get_attribute("lang") == language
        send(browser, "one", name="Jörg", email="ute@example.com")
        wait_for_status(browser, finished)
        assert texts(browser, "article dd") == [
            "party@example.com",
            "ute@example.com",
            subject,
        ]
        assert texts(browser, "aside dd") == [demo.host, language, "Jörg"]
        (link,) = browser.find_elements(By.CSS_SELECTOR, "article a")
        assert re.fullmatch(rf"{demo.url}join/[0-9a-f]{{8}}", link.text)
        code = link.text[-8:]
        press(browser, "article a")
        assert texts(browser, "strong") == [code], browser.current_url


def test_a_longer_job_is_followed_live(demo: Demo, tmp_path: Path) -> None:
    """Message, bar and mails follow the task to its end, in the page as loaded."""
    with browsing(tmp_path, "de") as browser:
        browser.get(demo.url)
        send(browser, "many", name="Jörg", emails="a@example.com\n\nb@example.com\n")
        browser.execute_script("window.loadedOnce = true")
        wait_for_status(browser, "Gesendet: 1 von 2")
        assert texts(browser, "article dd:nth-of-type(2)") == ["a@example.com"]
        bar = browser.find_element(By.TAG_NAME, "progress")
        assert (bar.get_property("value"), bar.get_property("max")) == (1, 2)
        wait_for_status(browser, "Fertig. Gesendet: 2 von 2")
        receivers = ["b@example.com", "a@example.com"]
        assert texts(browser, "article dd:nth-of-type(2)") == receivers
        assert bar.get_property("value") == 2
        links = texts(browser, "article a")
        assert [link[: len(demo.url)] for link in links] == [demo.url] * 2
        assert browser.execute_script("return window.loadedOnce") is True


def test_a_lost_connection_is_told(demo: Demo, tmp_path: Path) -> None:
    """The page says that nobody answers, and goes on when the server is back."""
    with browsing(tmp_path, "en") as browser:
        browser.get(demo.url)
        send(browser, "many", name="Jörg", emails="a@example.com\nb@example.com")
        browser.set_network_conditions(offline=True, latency=0, throughput=0)
        wait_for_status(browser, "The server does not answer. Trying again…")
        browser.delete_network_conditions()
        wait_for_status(browser, "Finished. Sent: 2 of 2")
        assert len(texts(browser, "article")) == 2
        assert "ERR_INTERNET_DISCONNECTED" in console_errors(browser)[0]


def test_without_javascript_the_page_reloads(demo: Demo, tmp_path: Path) -> None:
    """The same job reaches its end with JavaScript switched off."""
    with browsing(tmp_path, "fr", javascript=False) as browser:
        browser.get(demo.url)
        send(browser, "many", name="Amélie", emails="a@example.com\nb@example.com")
        first = browser.find_element(By.TAG_NAME, "progress")
        wait_for_status(browser, "Envoyé : 1 sur 2")
        wait_for_status(browser, "Terminé. Envoyé : 2 sur 2")
        assert len(texts(browser, "article")) == 2
        with pytest.raises(StaleElementReferenceException, match="stale element"):
            first.is_displayed()


@pytest.mark.parametrize(
    ("form", "fields", "wrong", "message"),
    [
        (
            "one",
            {"name": " ", "email": "u@b.c"},
            "name",
            "Bitte fülle dieses Feld aus.",
        ),
        (
            "one",
            {"name": "J", "email": "(@b.c"},
            "email",
            "„(@b.c“ ist keine Mailadresse.",
        ),
        (
            "many",
            {"name": "J", "emails": "a@b.c\nben at example"},
            "emails",
            "„ben at example“ ist keine Mailadresse.",
        ),
        (
            "many",
            {"name": "J", "emails": " "},
            "emails",
            "Bitte fülle dieses Feld aus.",
        ),
    ],
)
def test_a_mistake_is_shown_at_its_field(
    demo: Demo,
    tmp_path: Path,
    form: str,
    fields: dict[str, str],
    wrong: str,
    message: str,
) -> None:
    """What the browser let pass is described at the field, which has the focus."""
    with browsing(tmp_path, "de") as browser:
        browser.get(demo.url)
        browser.execute_script("for (const f of document.forms) f.noValidate = true")
        send(browser, form, **fields)
        field = browser.find_element(By.CSS_SELECTOR, "[aria-invalid=true]")
        assert field.get_attribute("id") == f"{form}-{wrong}"
        assert field == browser.switch_to.active_element
        assert field.get_property("value").strip() == fields[wrong].strip()
        assert texts(browser, f"#{field.get_attribute('aria-describedby')}") == [
            message
        ]
        (bad_request,) = console_errors(browser)
        assert "responded with a status of 400 (" in bad_request


def test_without_the_library_the_task_fails(demo: Demo, tmp_path: Path) -> None:
    """The page shows Flask's error, and no mail."""
    with browsing(tmp_path, "en") as browser:
        browser.get(demo.url)
        fill_in(browser, "one", name="Jörg", email="ute@example.com")
        press(browser, "button[formaction]")
        error = "RuntimeError: Unable to build URLs outside an active request"
        meant = "The task failed, as it must without flask-task-context."
        wait_for_status(browser, f"{meant} {error}")
        assert texts(browser, "article") == []


def test_a_port_that_is_taken_is_one_sentence() -> None:
    """It says how to name another one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = ["-m", "examples.demo", "--serve", f"--port={port}"]
        ended = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True
        )
    taken = f"Port {port} is taken: name another one with --port, or 0 for any.\n"
    assert (ended.returncode, ended.stderr) == (1, taken)


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_fits_a_phone(demo: Demo, tmp_path: Path, language: str) -> None:
    """No page scrolls sideways; every target can be touched, every text be read."""
    with browsing(tmp_path, language) as browser:
        browser.get(demo.url)
        check_page(browser)
        send(browser, "one", name="W" * 80, email=f"{'w' * 60}@example.com")
        wait_for_status(browser, LANGUAGES[language][0])
        assert len(texts(browser, "article")) == 1
        check_page(browser)
        press(browser, "article a")
        check_page(browser)
        browser.get(demo.url)
        send(browser, "many", name="W", emails="w" * 80)
        assert len(texts(browser, ".mistake")) == 1
        check_page(browser)
        console_errors(browser)  # the 400 of the mistake


def check_page(browser: webdriver.Chrome) -> None:
    width = "return [document.documentElement.scrollWidth, innerWidth]"
    assert browser.execute_script(width) == [PHONE[0], PHONE[0]]
    assert browser.execute_script(SMALL_TARGETS) == []
    for scheme in ("light", "dark"):
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        assert browser.execute_script(PALE_TEXTS) == []


def test_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    """Servers and worker end with the demo, and its folder is gone."""
    demo = Demo(tmp_path / "demo.log")
    started = descendants(demo.process.pid)
    assert len(started) >= 3  # the web server, the worker and its children
    assert demo.interrupt() == 0
    assert [pid for pid in started if is_running(pid)] == []
    assert not demo.folder.exists()


def descendants(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found = children.get(pid, [])
    for process in found:  # which grows on the way
        found += children.get(process, [])
    return found


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
