"""What every committed notebook must keep to; the tests apply each rule to each notebook.

A rule takes a notebook's content and yields a sentence for each fault, naming the cell as Jupyter counts
them, from 0.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import nbformat

Notebook = dict[str, Any]
Cell = dict[str, Any]

MARKER = "# NBVAL_CHECK_OUTPUT"
TYPES = r"(list\[)*(bool|int|float|str)\]*"  # papermill does not see parameters of other types
MAX_LINES = 20  # of a code cell, blank ones aside
MAX_DEF = 5  # lines of a function; longer ones belong in a module, where they are tested
MIN_MARKED = 2
MIN_ALT = 30
MAX_BYTES = 400_000

# Outputs leave through workbook.report, places come from workbook.paths.
FORBIDDEN = {
    r"\.savefig\(": "savefig: let the report save figures",
    r"\.to_csv\(": "to_csv: let the report save tables",
    r"\bos\.chdir\(": "os.chdir: use workbook.paths",
    r"\bsys\.path\b": "sys.path: the library is installed",
    r"""["']\.\./""": "a path that starts at ..: use workbook.paths",
    r"\bmatplotlib\.use\(": "matplotlib.use: figures would vanish",
}
MACHINE_PATH = re.compile(r"(?<![\w.])(?:/(?:home|Users|root|work|tmp|mnt|opt|srv|private|var)/|[A-Z]:\\)\S*")


def cells(notebook: Notebook, kind: str) -> Iterator[tuple[int, Cell]]:
    """The numbered cells of one kind, ``"code"`` or ``"markdown"``."""
    return ((n, cell) for n, cell in enumerate(notebook["cells"]) if cell["cell_type"] == kind)


def text(cell: Cell) -> str:
    """A cell's source; files may hold it as one text or as a list of lines."""
    return "".join(cell["source"])


def tags(cell: Cell) -> list[str]:
    """A cell's tags."""
    return list(cell["metadata"].get("tags", []))


def well_formed(notebook: Notebook) -> Iterator[str]:
    """A valid notebook for the kernel ``python3``, without the traces of a run or of widgets."""
    try:
        nbformat.validate(nbformat.from_dict(notebook))
    except nbformat.ValidationError as error:
        yield f"not a valid notebook: {str(error).splitlines()[0]}"
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec must be python3, or others cannot start it"
    for key in ("widgets", "papermill"):
        if key in notebook["metadata"]:
            yield f"metadata.{key} must not be committed; run make refresh"
    for n, cell in enumerate(notebook["cells"]):
        for key in ("papermill", "execution"):
            if key in cell["metadata"]:
                yield f"cell {n}: metadata.{key} must not be committed; run make refresh"


def opening(notebook: Notebook) -> Iterator[str]:
    """A title first; the first code cell declares the parameters."""
    first = notebook["cells"][0]
    if first["cell_type"] != "markdown" or not text(first).startswith("# "):
        yield "cell 0 must be Markdown that starts with the title"
    code = [cell for _, cell in cells(notebook, "code")]
    tagged = [cell for cell in code if "parameters" in tags(cell)]
    if len(tagged) != 1 or tagged[0] is not code[0]:
        yield 'the first code cell, and no other, must have the tag "parameters"'
    if any("injected-parameters" in tags(cell) for cell in code):
        yield "an injected cell shows that this is an executed copy; run make refresh"


def typed_parameters(notebook: Notebook) -> Iterator[str]:
    """One literal with type and comment per line; the defaults are the quick profile, without widgets."""
    for n, cell in cells(notebook, "code"):
        if "parameters" not in tags(cell):
            continue
        values = {}
        for statement in ast.parse(text(cell)).body:
            line = text(cell).splitlines()[statement.lineno - 1]
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                yield f"cell {n}: write {line.strip()!r} as name: type = value  # what it is"
                continue
            if not re.fullmatch(TYPES, ast.unparse(statement.annotation)):
                yield f"cell {n}: {statement.target.id} must be bool, int, float, str or list[...] of these"
            if statement.end_lineno != statement.lineno or "  # " not in line:
                yield f"cell {n}: {statement.target.id} needs one line and a comment that says what it is"
            try:
                values[statement.target.id] = ast.literal_eval(statement.value or ast.Constant(None))
            except ValueError:
                yield f"cell {n}: {statement.target.id} must be a literal; an override would not reach it"
        if values.get("profile") != "quick":
            yield f'cell {n}: must declare profile: str = "quick"'
        if values.get("interactive", False) is not False:
            yield f"cell {n}: interactive must be False, widgets are for readers with a kernel"


def short_cells(notebook: Notebook) -> Iterator[str]:
    """No empty, long or unreadable code cell; no class and no long function."""
    for n, cell in cells(notebook, "code"):
        lines = [line for line in text(cell).splitlines() if line.strip()]
        if not lines:
            yield f"cell {n} is empty"
        if len(lines) > MAX_LINES:
            yield f"cell {n} has {len(lines)} lines, at most {MAX_LINES}"
        try:
            tree = ast.parse(text(cell))
        except SyntaxError as error:
            yield f"cell {n} is not plain Python (no shell commands, no magics): {error.msg}"
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield f"cell {n}: the class {node.name} belongs in a module"
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_DEF:
                    yield f"cell {n}: the function {node.name} has {length} lines, at most {MAX_DEF}"


def prose(notebook: Notebook) -> Iterator[str]:
    """At least as much explained as computed."""
    n_text, n_code = (sum(1 for _ in cells(notebook, kind)) for kind in ("markdown", "code"))
    if n_text < n_code:
        yield f"{n_text} Markdown cells for {n_code} code cells; explain more, or join cells"


def clean_code(notebook: Notebook) -> Iterator[str]:
    """Nothing saved or moved behind the library's back."""
    for n, cell in cells(notebook, "code"):
        for pattern, reason in FORBIDDEN.items():
            if re.search(pattern, text(cell)):
                yield f"cell {n}: {reason}"


def no_machine_paths(notebook: Notebook) -> Iterator[str]:
    """No path of anybody's machine, in the sources or in the outputs."""
    for n, cell in enumerate(notebook["cells"]):
        for where in (text(cell), *(output_text(output) for output in cell.get("outputs", []))):
            if found := MACHINE_PATH.search(where):
                yield f"cell {n}: the path {found.group()} is one of a machine"


def output_text(output: dict[str, Any]) -> str:
    """What an output says in words."""
    data = output.get("data", {})
    parts = [output.get("text", ""), output.get("evalue", "")]
    parts += [data[kind] for kind in ("text/plain", "text/html", "text/markdown") if kind in data]
    return "\n".join("".join(part) for part in parts)


def executed_in_order(notebook: Notebook) -> Iterator[str]:
    """Run once from top to bottom, without errors and without warnings left on screen."""
    counts = [cell["execution_count"] for _, cell in cells(notebook, "code")]
    if counts != list(range(1, len(counts) + 1)):
        yield f"the execution counts are {counts}, not 1 to {len(counts)}; run make refresh"
    for n, cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                yield f"cell {n}: stored an error, {output['ename']}"
            elif output.get("name") == "stderr":
                yield f"cell {n}: stored a warning or a progress bar: {output_text(output).strip()[:60]!r}"


def marked(notebook: Notebook) -> Iterator[str]:
    """Some results are compared by nbval, and those that are marked are there to be compared."""
    found = 0
    for n, cell in cells(notebook, "code"):
        comments = [line.strip() for line in text(cell).splitlines() if "NBVAL_" in line]
        if any(comment != MARKER for comment in comments):
            yield f"cell {n}: nbval ignores a marker unless it is exactly {MARKER!r}"
        if any(tag.startswith("nbval-") or tag == "raises-exception" for tag in tags(cell)):
            yield f"cell {n}: use the comment {MARKER!r}, no tag"
        if MARKER in comments:
            found += 1
            said = any(output_text(output).strip() for output in cell["outputs"])
            if cell["execution_count"] is None or not said:
                yield f"cell {n}: marked, but stores no text, so nbval compares nothing; run make refresh"
    if found < MIN_MARKED:
        yield f"{found} marked cells, at least {MIN_MARKED}: mark small tables and invariants"


def described_pictures(notebook: Notebook) -> Iterator[str]:
    """Every picture says what it shows; no output that needs a kernel or JavaScript."""
    for n, cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            for kind in output.get("data", {}):
                alt = output.get("metadata", {}).get(kind, {}).get("alt", "")
                if kind.startswith("image/") and len(alt) < MIN_ALT:
                    yield f"cell {n}: a picture without an alt text; use report.figure or report.show"
                if kind.startswith("application/"):
                    yield f"cell {n}: an output of type {kind}, which readers without a kernel do not see"


def small(notebook: Notebook) -> Iterator[str]:
    """Small enough to read and review in a browser."""
    size = len(json.dumps(notebook, indent=1, ensure_ascii=False).encode())
    if size > MAX_BYTES:
        yield f"{size // 1000} kB, at most {MAX_BYTES // 1000} kB"


RULES = (
    well_formed,
    opening,
    typed_parameters,
    short_cells,
    prose,
    clean_code,
    no_machine_paths,
    executed_in_order,
    marked,
    described_pictures,
    small,
)
