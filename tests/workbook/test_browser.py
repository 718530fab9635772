"""In a real browser: notebooks and report render, and the panels in JupyterLab answer to their controls.

Needs Debian's packages chromium and chromium-driver (or their like). Without them the tests are skipped, or fail
where FAM_BROWSER=required says that they are there.
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
from axe_core_python.selenium import Axe
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from workbook import paths, profiles
from workbook.run import site

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = "chromium or chromedriver is not installed (Debian: chromium chromium-driver)"
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER) and os.environ.get("FAM_BROWSER") != "required", reason=MISSING
)

PATIENCE = 300  # seconds until a condition counts as failed; a free machine needs one or two
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

# What stands before the panels' cells of the real notebooks, in the place of their networks and pictures. The layer
# that is explained by default has 7 channels; "body" has so many that their masked forwards take long.
SETUP = """
    import time
    import torch
    from torch import nn
    from toys import ConvHead, pictures, seeded

    class Slow(ConvHead):
        mean, std = (0.5,) * 3, (0.25,) * 3

        def __init__(self):
            super().__init__()
            self.body, self.conv = nn.Conv2d(3, 600, 3, 4, 1), nn.Conv2d(600, 7, 3, 2, 1)

        def forward(self, images):
            time.sleep(len(images) // 32)
            return super().forward(images)

    f = model = seeded(Slow(), seed=1)
    pictures = pictures(4).sigmoid()
    interactive = True"""
PHOTOGRAPHS = """
    from types import SimpleNamespace
    from workbook.explorer import explorer

    PHOTOGRAPHS, images = ("ann", "bob", "cy", "dee"), 4 * pictures - 2
    classify = SimpleNamespace(get_classifier=lambda: seeded(nn.Linear(7, 4)))"""
RANK_LISTS = """
    from types import SimpleNamespace
    from workbook.explorer import match_explorer, rank_lists
    from workbook.reid.data import ImageSet
    from torchvision.utils import save_image

    for name, picture in zip("abcd", pictures):
        save_image(picture, f"{name}.png")
    queries = SimpleNamespace(
        image_set=ImageSet(("a.png", "b.png"), torch.tensor([7, 5]), torch.tensor([1, 1])),
        gallery_set=ImageSet(("b.png", "c.png", "d.png"), torch.tensor([5, 7, 7]), torch.tensor([2, 2, 2])),
        images=torch.zeros(2, 3, 64, 32),
        best=torch.tensor([[2, 0, 1], [1, 2, 0]]),
    )
    data = SimpleNamespace(label="toys")"""


def panel_notebook(notebook: str, function: str, setup: str) -> nbformat.NotebookNode:
    """The cell of a committed notebook that makes a panel, behind a setup with toys, as a notebook of one cell."""
    cells = nbformat.read(paths.NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    real = next(cell.source for cell in cells if re.search(rf"display\({function}\(", cell.source))
    source = "\n".join(dedent(code).strip() for code in (SETUP, setup, real))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata={"kernelspec": kernel})


@contextmanager
def lab(folder: Path) -> Iterator[str]:
    """JupyterLab with this folder as its root and nothing of the user's; yields its address."""
    own = {name: str(folder / ".jupyter" / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {f"JUPYTER_{name}_DIR": place for name, place in own.items()} | {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_PATH": str(paths.ROOT / "tools" / "jupyter"),  # as `make lab` has it
        "JUPYTERLAB_SETTINGS_DIR": str(folder / ".jupyter" / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".jupyter" / "workspaces"),
        "IPYTHONDIR": str(folder / ".jupyter" / "ipython"),
        "PYTHONPATH": os.pathsep.join((str(paths.ROOT), str(paths.ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"]
    (folder / ".jupyter").mkdir()
    with (folder / ".jupyter" / "log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield address(server, Path(own["RUNTIME"]))
    finally:
        server.kill()  # its kernels see that it is gone and end, also one that is only starting
        server.wait()


def address(server: subprocess.Popen, runtime: Path) -> str:
    """Where the server listens, as soon as it answers."""

    def answers(_: object) -> str | None:
        assert server.poll() is None, f"JupyterLab ended with {server.returncode}"
        try:
            url = json.loads(next(runtime.glob("jpserver-*.json")).read_text())["url"]
            with urlopen(url + "api", timeout=PATIENCE):
                return url
        except (StopIteration, ValueError, OSError):
            return None

    return WebDriverWait(None, PATIENCE, 0.2).until(answers)


@pytest.fixture(scope="module")
def workbook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of JupyterLab, and its folder: the committed notebooks and figures, and two notebooks of toys."""
    folder = tmp_path_factory.mktemp("workbook")
    for name in ("notebooks", "figures"):  # some notebooks show figures of earlier ones
        shutil.copytree(paths.ROOT / name, folder / name, ignore=shutil.ignore_patterns(".*"))
    photographs = panel_notebook("02_fam_methods", "explorer", PHOTOGRAPHS)
    ranks = panel_notebook("03_reid_evaluation", "match_explorer", RANK_LISTS)
    nbformat.write(photographs, folder / "explorer.ipynb")
    nbformat.write(ranks, folder / "match_explorer.ipynb")
    with lab(folder) as url:
        yield url, folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    assert CHROMIUM and DRIVER, MISSING
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: WebDriver) -> WebDriver:
    """The browser, with nothing left of an earlier test."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    return chromium


def until(browser: WebDriver, condition: Callable[[], object], what: str) -> object:
    """Wait for a condition; elements that are replaced meanwhile are looked up again."""
    passing = [StaleElementReferenceException, IndexError]
    return WebDriverWait(browser, PATIENCE, 0.1, passing).until(lambda _: condition(), f"no {what}")


def severe(browser: WebDriver) -> list[str]:
    """Errors in the browser's console."""
    # Leaving a page with an open notebook asks whether to stay, and headless nobody has touched the page.
    return [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and "beforeunload" not in entry["message"]
    ]


# --- notebooks and report ---------------------------------------------------------------------------------


def test_committed_notebooks_render_and_are_saved_as_they_were(workbook: tuple[str, Path], browser: WebDriver) -> None:
    url, folder = workbook
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
        pictures = sum(any(kind.startswith("image/") for kind in bundle) for bundle in data)
        browser.get(f"{url}lab/tree/notebooks/{path.name}?reset")
        title = cells[0].source.splitlines()[0].removeprefix("# ")
        until(browser, lambda title=title: title in find(browser, "h1")[0].text, f"title of {path.name}")
        until(browser, lambda n=pictures: len(loaded(browser)) == n, f"{pictures} pictures in {path.name}")
        assert not find(browser, "mjx-merror, .jp-RenderedMarkdown merror"), f"an equation of {path.name} fails"
        assert not find(browser, ".Toastify__toast"), "something pops up"  # as news and updates would
        until(browser, lambda: "| Idle" in find(browser, "#jp-main-statusbar")[0].text, "kernel")
        press(browser, Keys.CONTROL + "s")
        until(browser, lambda: not find(browser, ".lm-TabBar-tab.jp-mod-dirty"), f"{path.name} is saved")
        assert path.read_bytes() == (paths.NOTEBOOKS / path.name).read_bytes()
        assert not severe(browser)


def test_report_is_whole_offline_and_accessible(
    tmp_path: Path, browser: WebDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "FIGURES", paths.ROOT / "figures")
    bodies = site.convert([*sorted(paths.NOTEBOOKS.glob("*.ipynb")), *sorted(paths.NOTEBOOKS.glob("*.md"))])
    pages = {name: site.page(name, body, bodies, name) for name, body in bodies.items()}
    pages["index"] = site.page("index", site.overview(profiles.load("quick")), bodies)
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(text)
    shutil.copytree(paths.FIGURES, tmp_path / "figures")
    assert not site.problems(tmp_path)
    unfold = "document.querySelectorAll('details').forEach(details => details.open = true)"
    drawn = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    empty = "return [...document.querySelectorAll('math')].filter(m => !m.getBoundingClientRect().width).length"
    asked = "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
    for name in pages:
        browser.get((tmp_path / f"{name}.html").as_uri())
        browser.execute_script(unfold)
        until(browser, lambda: browser.execute_script(drawn), f"pictures of {name}")
        assert browser.execute_script(empty) == 0, f"equations of {name}"
        assert browser.execute_script(asked) == [], f"{name} asks for something outside the page"
        assert not severe(browser)
        assert not violations(browser), name


def test_report_is_read_with_the_keyboard(tmp_path: Path, browser: WebDriver) -> None:
    bodies = {"one": "<h1 id='a'>One</h1><details class='code'><summary>code</summary>x = 1</details>"}
    (tmp_path / "one.html").write_text(site.page("One", bodies["one"], bodies, "one"))
    browser.get((tmp_path / "one.html").as_uri())
    press(browser, Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the text" and skip.rect["x"] >= 0
    press(browser, Keys.ENTER, Keys.TAB, Keys.ENTER)
    assert "x = 1" in find(browser, "main")[0].text


def press(browser: WebDriver, *keys: str) -> None:
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def violations(browser: WebDriver) -> list[str]:
    """What axe-core finds on the page that keeps somebody from reading it."""
    return [
        f"{found['id']} ({found['impact']}): {found['nodes'][0]['html'][:200]}"
        for found in Axe().run(browser, options={"resultTypes": ["violations"]})["violations"]
        if found["impact"] in ("serious", "critical")
    ]


def find(browser: WebDriver, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def loaded(browser: WebDriver) -> list[WebElement]:
    """Pictures in outputs that have arrived and could be decoded."""
    script = "return [...document.querySelectorAll('.jp-OutputArea img')].filter(i => i.complete && i.naturalWidth)"
    return browser.execute_script(script)


# --- the panels -------------------------------------------------------------------------------------------


class Panel:
    """A panel on the page, as a reader sees and touches it."""

    def __init__(self, browser: WebDriver, url: str) -> None:
        """Open a notebook, run its one cell, and wait for the panel that it makes."""
        self.browser = browser
        browser.get(f"{url}?reset")
        until(browser, lambda: "| Idle" in find(browser, "#jp-main-statusbar")[0].text, "kernel")
        find(browser, ".jp-CodeCell .cm-content")[0].click()
        find(browser, ".jp-CodeCell .cm-content")[0].send_keys(Keys.SHIFT, Keys.ENTER)
        until(browser, lambda: self.picture or find(browser, ".jp-OutputArea [data-mime-type$=stderr]"), "panel")
        assert self.picture, find(browser, ".jp-OutputArea")[0].text

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
        """The pictures' data, once the work has ended and the browser could draw them; each needs a text."""
        script = "const all = [...document.querySelectorAll('.widget-html-content img')];"
        script += "const drawn = all.every(i => i.alt && i.complete && i.naturalWidth > 300);"
        script += "return drawn ? all.map(i => i.src).join() : ''"
        return "" if self.text.startswith("explaining") else self.browser.execute_script(script)

    def figures(self) -> tuple[int, float] | None:
        """Retained area in percent and cosine, where the panel shows them."""
        found = re.search(r"retained area (\d+)%; cosine to the original feature (\S+)", self.text)
        return found and (int(found[1]), float(found[2]))

    def after(self, action: Callable[[], object], *words: str) -> tuple[int, float] | None:
        """The figures that the panel shows once an action has changed its picture and its text has the words."""
        before = until(self.browser, lambda: self.picture, "picture before")
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

    def cancel(self) -> None:
        """Wait until long work shows its progress, then cancel it."""
        bar = self.control("progress", ".progress-bar")
        until(self.browser, lambda: self.text.startswith("explaining") and bar.size["width"] > 0, "progress")
        next(button for button in find(self.browser, ".widget-button") if button.text.strip() == "cancel").click()
        until(self.browser, lambda: self.text.startswith("cancelled"), "cancellation")


def test_explorer_answers_to_its_controls(workbook: tuple[str, Path], tmp_path: Path, browser: WebDriver) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8)).save(tmp_path / "me.png")
    (tmp_path / "letter.txt").write_text("dear sir")
    panel = Panel(browser, f"{workbook[0]}lab/tree/explorer.ipynb")

    # Each change of a control gives another picture with other figures.
    assert panel.text.startswith("score-fam: retained area")
    score_fam = panel.figures()
    grad_fam = panel.after(lambda: panel.choose("target", "projection on itself"), "grad-fam: retained area")
    layer = panel.after(lambda: panel.type("layer", "body"), "grad-fam: retained area")
    panel.control("boundaries", ".noUi-handle-lower").send_keys(Keys.ARROW_LEFT * 9)
    low = until(browser, lambda: (f := panel.figures()) and f[0] > layer[0] and f, "larger area for a lower B_Low")
    uploaded = panel.after(lambda: panel.upload(tmp_path / "me.png"), "grad-fam: retained area", "me.png at body")
    grad_cam = panel.after(lambda: panel.choose("target", "score of the likeliest class"), "grad-cam: retained area")
    assert len({score_fam, grad_fam, layer, low, uploaded, grad_cam}) == 6

    # Two methods side by side.
    panel.after(lambda: panel.choose("compare with", "uniform"), "grad-cam: retained", "uniform: retained")

    # What is wrong is said on the panel, and goes again.
    panel.type("layer", "no_such_layer")
    until(browser, lambda: "ValueError: the model has no layer 'no_such_layer'" in panel.text, "error")
    assert not find(browser, ".widget-html-content img")
    panel.type("layer", "body")
    until(browser, lambda: "grad-cam: retained area" in panel.text and panel.picture, "picture after the error")
    panel.upload(tmp_path / "letter.txt")
    until(browser, lambda: "letter.txt is no picture" in panel.text, "error about the upload")

    # Long work shows its progress and is cancelled.
    panel.choose("target", "cosine to itself")
    panel.cancel()
    panel.choose("target", "projection on itself")
    until(browser, lambda: "grad-fam: retained area" in panel.text and panel.picture, "picture afterwards")
    assert not severe(browser)


def test_match_explorer_answers_to_its_controls(workbook: tuple[str, Path], browser: WebDriver) -> None:
    panel = Panel(browser, f"{workbook[0]}lab/tree/match_explorer.ipynb")
    assert "rank 1 shows the same identity; cosine of the two features" in panel.text

    # Each change of a control gives other pictures.
    until(browser, lambda: panel.picture.count("data:image/png") == 2, "rank list and pair")
    rank = panel.control("pair: rank", ".noUi-handle")
    panel.after(lambda: rank.send_keys(Keys.ARROW_RIGHT), "rank 2 shows another identity")
    panel.after(lambda: panel.choose("query", "query 2, id 5"), "rank 2 shows another identity")
    panel.after(lambda: panel.choose("target", "projection on itself"))
    panel.after(lambda: panel.type("layer", "body"))

    # What is wrong is said on the panel; long work is cancelled.
    panel.type("layer", "no_such_layer")
    until(browser, lambda: "ValueError: the model has no layer 'no_such_layer'" in panel.text, "error")
    panel.choose("target", "cosine to itself")
    panel.type("layer", "body")
    panel.cancel()
    panel.type("layer", "")
    until(browser, lambda: "rank 2 shows" in panel.text and panel.picture, "picture afterwards")
    assert not severe(browser)
