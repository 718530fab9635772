"""``python -m fam_lib.reid --profile NAME``: train the Re-ID network of a profile."""

from fam_lib.reid.training import main

main()
