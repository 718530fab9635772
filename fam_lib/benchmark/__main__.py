"""``make bench``."""

from fam_lib.benchmark.explaining import main

main()
