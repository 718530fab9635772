"""``make bench``, or ``make bench ARGS=retrieval``: the first word says which benchmark, the rest is for it.

``make bench ARGS="--network resnet50 --memory"`` is the paper's network, ``make bench ARGS=--help`` all options.
"""

import sys

from workbook.benchmark import explaining, retrieval

BENCHMARKS = {"explain": explaining.main, "retrieval": retrieval.main}

words = sys.argv[1:]
name = words.pop(0) if words and words[0] in BENCHMARKS else "explain"
BENCHMARKS[name](words)
