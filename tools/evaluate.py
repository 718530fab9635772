"""Run the heavy part of notebook 03 outside a notebook: train, explain every query, measure every map.

``python -m tools.evaluate PROFILE`` uses the parameters that the notebook would get, shows what is left to do, and
can be killed at any moment: what is done stays in ``data/cache``, where the notebook finds it.
"""

from __future__ import annotations

import argparse
import sys
import time

from fam_lib import profiles
from tools import parameters

NOTEBOOK = "03_reid_evaluation"


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile")
    parser.add_argument("--data-root", default="", help="folder of the data sets; empty: data/")
    options = parser.parse_args(arguments)
    start = time.time()
    try:
        profile = profiles.load(options.profile)
        given = parameters.values(profile, NOTEBOOK, {}, options.data_root)
        used = {**parameters.defaults(NOTEBOOK), **given}

        from fam_lib.reid import experiment, prepare  # torch takes seconds to import: not for a mistyped profile

        data, model, config = prepare(options.profile, options.data_root)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    experiment.run(model, data, config.size, used["n_queries"], used["n_ablated"], used["layers"], used["seed"])
    print(f"done in {time.time() - start:.0f} s: make reproduce PROFILE={options.profile} reads the results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
