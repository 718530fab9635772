"""Tools behind the Makefile's targets; run them from the repository's root as ``python -m workbook.run.<name>``."""
