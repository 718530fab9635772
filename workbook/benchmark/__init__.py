"""What things cost, measured beside the peers in one run: one explanation (Table 1), one retrieval."""

from workbook.benchmark.explaining import table1

__all__ = ["table1"]
