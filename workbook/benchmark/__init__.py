"""What things cost, measured beside the peers in one run: one explanation (Table 1), one retrieval."""
