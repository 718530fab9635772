"""JupyterLab for this workbook (`make lab`): opening and saving a notebook changes nothing that nobody changed.

JupyterLab notes the version of the running Python in every notebook that it opens. The committed ones have none.
"""


def forget_version(model, **_):
    """Leave the version of Python out of a notebook that is saved."""
    if model["type"] == "notebook":
        model["content"]["metadata"].get("language_info", {}).pop("version", None)


c = get_config()  # noqa: F821  (Jupyter runs this file)
c.FileContentsManager.pre_save_hook = forget_version
