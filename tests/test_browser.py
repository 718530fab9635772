"""In a real browser: notebooks and report render, and the explorer in JupyterLab answers to its controls.

Needs Debian's packages chromium and chromium-driver (or their like); skipped where they are not installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from urllib.request import urlopen

import nbformat
import numpy as np
import pytest
from PIL import Image

from fam_lib import paths
from tools import site

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.remote.webdriver import WebDriver  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed (Debian: chromium chromium-driver)"
)

PATIENCE = 120  # seconds until a condition counts as failed; a free machine needs one or two
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1600",
)

# Both networks have one masked image in a forward. The slow one needs a minute for all of its channels.
CELL = """
    import time
    from fam_lib.explorer import explorer
    from toys import ConvHead, GapNet, pictures, seeded

    class Slow(GapNet):
        def forward(self, images):
            time.sleep(0.1)
            return super().forward(images)

    networks = {"quick": seeded(ConvHead()), "slow": seeded(Slow(channels=600))}
    shown = pictures(2).sigmoid()
    images = {name: (4 * x - 2, x) for name, x in zip(("ann", "bob"), shown)}
    explorer(networks, images, ["score-fam", "grad-fam", "ram", "uniform"], batch_size=1)"""


@contextmanager
def lab(folder: Path) -> Iterator[str]:
    """JupyterLab with this folder as its root and nothing of the user's; yields its address."""
    own = {name: str(folder / ".jupyter" / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {f"JUPYTER_{name}_DIR": place for name, place in own.items()} | {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTERLAB_SETTINGS_DIR": str(quiet_settings(folder / ".jupyter" / "settings")),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".jupyter" / "workspaces"),
        "IPYTHONDIR": str(folder / ".jupyter" / "ipython"),
        "PYTHONPATH": os.pathsep.join((str(paths.ROOT), str(paths.ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"]
    with (folder / ".jupyter" / "log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield address(server, Path(own["RUNTIME"]))
    finally:
        server.kill()  # its kernels see that it is gone and end, also one that is only starting
        server.wait()


def quiet_settings(folder: Path) -> Path:
    """JupyterLab asks no question about news, which would cover the page."""
    file = folder / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    file.parent.mkdir(parents=True)
    file.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    return folder


def address(server: subprocess.Popen, runtime: Path) -> str:
    """Where the server listens, as soon as it answers."""

    def answers(_: object) -> str | None:
        assert server.poll() is None, f"JupyterLab ended with {server.returncode}"
        try:
            url = json.loads(next(runtime.glob("jpserver-*.json")).read_text())["url"]
            with urlopen(url + "api"):
                return url
        except (StopIteration, ValueError, OSError):
            return None

    return WebDriverWait(None, PATIENCE, 0.2).until(answers)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def until(browser: WebDriver, condition: Callable[[], object], what: str) -> object:
    """Wait for a condition; elements that are replaced meanwhile are looked up again."""
    from selenium.common.exceptions import StaleElementReferenceException as Stale

    return WebDriverWait(browser, PATIENCE, 0.1, [Stale, IndexError]).until(lambda _: condition(), f"no {what}")


def severe(browser: WebDriver) -> list[str]:
    """Errors in the browser's console."""
    # Leaving a page with an open notebook asks whether to stay, and headless nobody has touched the page.
    return [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and "beforeunload" not in entry["message"]
    ]


# --- the committed notebooks ------------------------------------------------------------------------------


def test_committed_notebooks_render(tmp_path: Path, browser: WebDriver) -> None:
    (tmp_path / ".jupyter").mkdir()
    for folder in ("notebooks", "figures"):  # some notebooks show figures of earlier ones
        shutil.copytree(paths.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns(".*"))
    with lab(tmp_path) as url:
        for path in sorted((tmp_path / "notebooks").glob("*.ipynb")):
            cells = nbformat.read(path, as_version=4).cells
            data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
            pictures = sum(any(kind.startswith("image/") for kind in bundle) for bundle in data)
            browser.get(f"{url}lab/tree/notebooks/{path.name}?reset")
            title = cells[0].source.splitlines()[0].removeprefix("# ")
            until(browser, lambda title=title: title in find(browser, "h1")[0].text, f"title of {path.name}")
            until(browser, lambda n=pictures: len(loaded(browser)) == n, f"{pictures} pictures in {path.name}")
            assert not find(browser, "mjx-merror, .jp-RenderedMarkdown merror"), f"an equation of {path.name} fails"
            assert not severe(browser)


def test_pages_of_the_report_open_without_an_error(tmp_path: Path, browser: WebDriver) -> None:
    bodies = site.convert({path.stem: path for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))})
    for name, body in bodies.items():
        file = tmp_path / f"{name}.html"
        file.write_text(site.page(name, body, bodies, name))
        browser.get(file.as_uri())
        drawn = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
        until(browser, lambda drawn=drawn: browser.execute_script(drawn), f"pictures of {name}")
        assert all(equation.size["width"] > 0 for equation in find(browser, "math"))
        assert not severe(browser)


def find(browser: WebDriver, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def loaded(browser: WebDriver) -> list[WebElement]:
    """Pictures in outputs that have arrived and could be decoded."""
    script = "return [...document.querySelectorAll('.jp-OutputArea img')].filter(i => i.complete && i.naturalWidth)"
    return browser.execute_script(script)


# --- the explorer -----------------------------------------------------------------------------------------


class Panel:
    """The explorer on the page, as a reader sees and touches it."""

    def __init__(self, browser: WebDriver) -> None:
        self.browser = browser

    def control(self, description: str, selector: str) -> WebElement:
        """The part of the control with this description that the reader touches."""
        of = f"//label[normalize-space()='{description}']/.."
        return self.browser.find_element(By.XPATH, of).find_element(By.CSS_SELECTOR, selector)

    def choose(self, description: str, option: str) -> None:
        Select(self.control(description, "select")).select_by_visible_text(option)

    def type(self, description: str, text: str) -> None:
        field = self.control(description, "input")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(Keys.BACKSPACE, text, Keys.ENTER)

    @property
    def text(self) -> str:
        """The message, and what the picture says to a reader who cannot see it."""
        script = "const message = document.querySelector('.widget-vbox > .widget-html .widget-html-content');"
        script += "const image = document.querySelector('.widget-html-content img');"
        script += "return (message?.innerText ?? '') + '\\n' + (image?.alt ?? '')"
        return self.browser.execute_script(script).strip()

    @property
    def picture(self) -> str:
        """The picture's data, once the browser could draw it; it needs a text for who cannot see it."""
        script = "const i = document.querySelector('.widget-html-content img');"
        script += "return i?.alt && i.complete && i.naturalWidth > 300 ? i.src : ''"
        return self.browser.execute_script(script)

    def figures(self) -> tuple[int, float] | None:
        """Retained area in percent and cosine, where the panel shows them."""
        found = re.search(r"retained area (\d+)%; cosine to the original feature (\S+)", self.text)
        return found and (int(found[1]), float(found[2]))

    def after(self, action: Callable[[], object], *words: str) -> tuple[int, float]:
        """The figures that the panel shows once an action has changed its picture and its text has the words."""
        before = until(self.browser, lambda: "retained area" in self.text and self.picture, "picture before")
        action()
        until(
            self.browser,
            lambda: all(word in self.text for word in words) and self.picture not in ("", before),
            f"new picture of {words}",
        )
        return self.figures()

    def upload(self, path: Path) -> None:
        """Give a file to the upload button, whose input is no part of the page."""
        keep = "HTMLInputElement.prototype.click = function () { this.type === 'file' && document.body.append(this) }"
        self.browser.execute_script(keep)
        find(self.browser, "button.widget-upload")[0].click()
        field = self.browser.find_element(By.CSS_SELECTOR, "body > input[type=file]")
        field.send_keys(str(path))
        self.browser.execute_script("arguments[0].remove()", field)


def test_explorer_answers_to_its_controls(tmp_path: Path, browser: WebDriver) -> None:
    (tmp_path / ".jupyter").mkdir()
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    code = nbformat.v4.new_code_cell(dedent(CELL).strip())
    notebook = nbformat.v4.new_notebook(cells=[code], metadata={"kernelspec": kernel})
    nbformat.write(notebook, tmp_path / "explorer.ipynb")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8)).save(tmp_path / "me.png")
    (tmp_path / "letter.txt").write_text("dear sir")
    with lab(tmp_path) as url:
        panel = Panel(browser)
        browser.get(f"{url}lab/tree/explorer.ipynb")
        until(browser, lambda: "| Idle" in find(browser, "#jp-main-statusbar")[0].text, "kernel")
        find(browser, ".jp-CodeCell .cm-content")[0].click()
        find(browser, ".jp-CodeCell .cm-content")[0].send_keys(Keys.SHIFT, Keys.ENTER)
        until(browser, lambda: "score-fam: retained area" in panel.text and panel.picture, "panel")

        # Each change of a control gives another picture with other figures.
        score_fam = panel.figures()
        grad_fam = panel.after(lambda: panel.choose("target", "projection on itself"), "grad-fam: retained area")
        layer = panel.after(lambda: panel.type("layer", "body.0"), "grad-fam: retained area")
        panel.control("boundaries", ".noUi-handle-lower").send_keys(Keys.ARROW_LEFT * 9)
        low = until(browser, lambda: (f := panel.figures()) and f[0] > layer[0] and f, "larger area for a lower B_Low")
        uploaded = panel.after(lambda: panel.upload(tmp_path / "me.png"), "grad-fam: retained area", "me.png in quick")
        assert len({score_fam, grad_fam, layer, low, uploaded}) == 5

        # Two methods side by side.
        panel.after(lambda: panel.choose("compare with", "uniform"), "grad-fam: retained", "uniform: retained")

        # What is wrong is said on the panel, and goes again.
        panel.type("layer", "no_such_layer")
        until(browser, lambda: "ValueError: the model has no layer 'no_such_layer'" in panel.text, "error")
        assert not find(browser, ".widget-html-content img")
        panel.type("layer", "body.0")
        until(browser, lambda: "grad-fam: retained area" in panel.text and panel.picture, "picture after the error")
        panel.upload(tmp_path / "letter.txt")
        until(browser, lambda: "letter.txt is no picture" in panel.text, "error about the upload")

        # Long work shows its progress and is cancelled.
        panel.type("layer", "")
        panel.choose("compare with", "nothing")
        panel.choose("target", "cosine to itself")
        panel.choose("network", "slow")
        bar = panel.control("progress", ".progress-bar")
        until(browser, lambda: panel.text.startswith("explaining") and bar.size["width"] > 0, "progress")
        next(button for button in find(browser, ".widget-button") if button.text.strip() == "cancel").click()
        until(browser, lambda: panel.text.startswith("cancelled"), "cancellation")
        panel.choose("network", "quick")
        until(browser, lambda: "score-fam: retained area" in panel.text and panel.picture, "picture afterwards")
        browser.save_screenshot(str(tmp_path / "panel.png"))
        assert not severe(browser)
