"""Turn the executed notebooks of a profile into a site that needs nothing else: no network, no script.

``python -m workbook.run.site PROFILE`` reads ``build/<profile>/run/`` and writes ``build/<profile>/report/``: a page
for each notebook, with code folded, equations as MathML and pictures inside the page; the pages of text that stand
beside the notebooks; ``index.html`` with the contents, the outputs, and where every number came from; and a copy of
``figures/`` for their links. It fails on a link that leads nowhere and on a picture without a text for readers who
cannot see it.
"""

from __future__ import annotations

import argparse
import base64
import csv
import html
import json
import mimetypes
import shutil
import sys
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import nbformat
from bs4 import BeautifulSoup
from latex2mathml.converter import convert as to_mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from workbook import paths, profiles
from workbook.cache import store
from workbook.profiles import Profile, short
from workbook.run.check_outputs import CLAIMS, all_problems

TEMPLATE = """
{%- extends 'basic/index.html.j2' -%}
{%- block input_group -%}<details class="code"><summary>code</summary>{{ super() }}</details>{%- endblock -%}
{%- block in_prompt -%}{%- endblock -%}
{%- block output_area_prompt -%}{%- endblock -%}
"""
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the text</a>
<nav aria-label="contents">{contents}</nav>
<main id="main">{body}</main>
</body>
</html>
"""
STYLE = """
body { margin: 0; color: #1a1a1a; background: #fff; font: 16px/1.55 sans-serif; }
nav { font-size: 14px; padding: 1em; background: #f5f5f5; }
nav ul { padding-left: 1.2em; }
main { max-width: 50em; padding: 1em; overflow-wrap: break-word; }
.skip { position: absolute; left: -99em; }
.skip:focus { left: 1em; top: .5em; padding: .3em; background: #fff; }
@media (min-width: 70em) {
  body { display: grid; grid-template-columns: 18em 1fr; }
  nav { position: sticky; top: 0; height: 100vh; overflow: auto; box-sizing: border-box; }
  main { padding: 1em 3em; }
}
img { max-width: 100%; }
pre { overflow-x: auto; font-size: 14px; padding: .5em; background: #f7f7f7; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: .3em .8em; text-align: left; vertical-align: top; }
details.code > summary { color: #595959; font-size: 14px; cursor: pointer; }
a { color: #0053a6; }
.anchor-link { visibility: hidden; text-decoration: none; }
:hover > .anchor-link, .anchor-link:focus { visibility: visible; }
"""


class SiteError(Exception):
    """Something that one line explains to the user."""


class Renderer(IPythonRenderer):
    """Markdown of a notebook with its equations as MathML, its pictures inside, and links to the site's pages.

    Args:
        pages: names of the site's pages. A link to another file of the workbook is left as its text.
    """

    def __init__(self, pages: Container[str]) -> None:
        super().__init__(escape=False)
        self.pages = pages

    def inline_math(self, body: str) -> str:
        return to_mathml(body)

    def block_math(self, body: str) -> str:
        return to_mathml(body, display="block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        target, fragment = urldefrag(url)
        path = paths.NOTEBOOKS / unquote(target)
        if path.parent == paths.NOTEBOOKS and path.stem in self.pages:
            url = f"{path.stem}.html" + (f"#{fragment}" if fragment else "")
        elif target.startswith("../figures/") and path.is_file():
            url = url.removeprefix("../")
        elif path.is_file():
            return text
        return super().link(text, url, title)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        path = paths.NOTEBOOKS / unquote(url)
        if not path.is_file():
            raise SiteError(f"a notebook shows {url}, which is not there; run `make reproduce` first")
        kind, content = mimetypes.guess_type(path)[0], base64.b64encode(path.read_bytes()).decode()
        return super().image(text, f"data:{kind};base64,{content}", title)


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m workbook.run.site", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile")
    options = parser.parse_args(arguments)
    try:
        folder = build(profiles.load(options.profile))
        if wrong := problems(folder):
            raise SiteError("\n".join(wrong))
    except (SiteError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(short(folder / "index.html"))
    return 0


def build(profile: Profile) -> Path:
    """Write the site and return its folder.

    Raises:
        SiteError: a notebook of the profile was not run, its outputs are not those of its run, or it shows a
            picture that is not there.
    """
    run, folder = paths.BUILD / profile.name / "run", paths.BUILD / profile.name / "report"
    for name in profile.notebooks:
        wrong = all_problems(profile, name) if (run / f"{name}.ipynb").is_file() else ["it has not been run"]
        if wrong:
            raise SiteError(f"{name}: {'; '.join(wrong)}: make reproduce PROFILE={profile.name}")
    beside = sorted(paths.NOTEBOOKS.glob("*.md"))
    bodies = convert([*(run / f"{name}.ipynb" for name in profile.notebooks), *beside])
    pages = {name: page(headings(body)[0][1], body, bodies, name) for name, body in bodies.items()}
    pages["index"] = page(f"FAM workbook, profile {profile.name}", overview(profile), bodies)
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages.items():
        store.write_text(folder / f"{name}.html", text)
    shutil.copytree(paths.FIGURES, folder / "figures")
    return folder


def convert(sources: Iterable[Path]) -> dict[str, str]:
    """Executed notebooks and pages of Markdown as HTML, by name."""
    files = {path.stem: path for path in sources}
    exporter = HTMLExporter(raw_template=TEMPLATE)

    def to_html(markdown: str) -> str:
        return MarkdownWithMath(Renderer(files)).render(markdown)

    exporter.register_filter("markdown2html", to_html)
    bodies = {}
    for name, path in files.items():
        if path.suffix == ".md":
            bodies[name] = to_html(path.read_text(encoding="utf-8"))
        else:
            bodies[name] = exporter.from_notebook_node(nbformat.read(path, as_version=4))[0]
    return bodies


def headings(body: str) -> list[tuple[str, str]]:
    """(anchor, text) of the headings of the first and second level."""
    found = BeautifulSoup(body, "html.parser").select("h1[id], h2[id]")
    return [(heading["id"], heading.get_text().removesuffix("¶")) for heading in found]


def page(title: str, body: str, bodies: dict[str, str], here: str = "") -> str:
    """A whole page; its contents list every notebook, and the sections of this one."""
    items = [_link("index.html", "Overview")]
    for name, other in bodies.items():
        (_, heading), *sections = headings(other)
        inner = [_link(f"#{anchor}", text) for anchor, text in sections] if name == here else []
        items.append(_link(f"{name}.html", heading) + (_list(inner) if inner else ""))
    body = body.replace("<pre>", '<pre tabindex="0">').replace("<table", '<table tabindex="0"')  # they may scroll
    # Of the coloured styles the one whose contrast with the grey ground is above 4.5 everywhere.
    style = STYLE + HtmlFormatter(style="xcode").get_style_defs(".highlight")
    return PAGE.format(title=html.escape(title), style=style, contents=_list(items), body=body)


def overview(profile: Profile) -> str:
    """What the profile is, what it made, what became of the claims, and how: the manifest for readers."""
    content = json.loads((paths.FIGURES / profile.name / "manifest.json").read_text(encoding="utf-8"))
    by = {name: _link(f"{name}.html", name) for name in profile.notebooks}  # the ledger is made by no notebook
    made = [
        (
            entry["paper"],
            _link(f"figures/{profile.name}/{entry['file']}", entry["file"]),
            by.get(entry["notebook"], entry["notebook"]),
            entry["dataset"],
        )
        for entry in content["outputs"]
    ]
    runs = [_provenance(name, run) for name, run in content["runs"].items()]
    versions = next(iter(content["runs"].values()))["packages"]
    return "\n".join((
        f"<h1>FAM workbook, profile {html.escape(profile.name)}</h1>",
        f"<p>{html.escape(profile.description)} Data: {html.escape(profile.dataset)}.</p>",
        "<h2>Outputs</h2>",
        _table(("paper", "file", "made by", "data"), made),
        *_verdicts(paths.FIGURES / profile.name / CLAIMS),
        "<h2>Provenance</h2>",
        _table(("notebook", "device", "seconds", "commit", "parameters"), runs),
        "<p>" + html.escape(", ".join(f"{name} {number}" for name, number in versions.items() if number)) + "</p>",
    ))  # fmt: skip


def _verdicts(ledger: Path) -> tuple[str, ...]:
    """The claims ledger in brief; nothing where the profile decides no claim."""
    if not ledger.is_file():
        return ()
    with ledger.open(encoding="utf-8", newline="") as lines:
        rows = [[html.escape(row[name]) for name in ("claim", "where", "verdict")] for row in csv.DictReader(lines)]
    return "<h2>The paper's claims</h2>", _table(("claim", "paper", "verdict"), rows)


def _provenance(name: str, run: dict[str, Any]) -> tuple[str, ...]:
    commit = (run["commit"] or "unknown")[:10] + (" with changes" if run["dirty"] else "")
    parameters = ", ".join(f"{key}={value!r}" for key, value in run["parameters"].items())
    return name, run["device"], f"{run['wall_seconds']:g}", commit, html.escape(parameters)


def _link(url: str, text: str) -> str:
    return f'<a href="{html.escape(url)}">{html.escape(text)}</a>'


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{text}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def problems(folder: Path) -> list[str]:
    """What a reader would miss: links that lead nowhere, things from elsewhere, pictures without a text."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.html"))}
    pages = {name: BeautifulSoup(text, "html.parser") for name, text in texts.items()}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    found = []
    for name, soup in pages.items():
        if "|---" in soup.get_text():
            found.append(f"{name}: a table is shown as text; write a | inside an equation as \\vert")
        for image in soup.select("img"):
            # nbconvert's own words where a cell gave none.
            if not image.get("alt") or image["alt"].startswith("No description has been provided"):
                found.append(f"{name}: a picture has no alternative text")
        for element in soup.select("[src], link[href]"):
            if not (source := element.get("src") or element["href"]).startswith("data:"):
                found.append(f"{name}: {source} is not inside the page")
        for anchor in soup.select("a[href]"):
            target, fragment = urldefrag(anchor["href"])
            if target.startswith(("https:", "http:")):
                continue
            other = pages.get(target or name)
            # Like a browser: the fragment as it is written, or else decoded.
            there = other and other.find(id=[fragment, unquote(fragment)]) if fragment else (target or name) in files
            if not there:
                found.append(f"{name}: the link to {anchor['href']} leads nowhere")
    return found


if __name__ == "__main__":
    sys.exit(main())
