"""Tools behind the Makefile's targets; run them from the workbook's folder as ``python -m tools.<name>``."""
