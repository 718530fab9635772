"""Evidence over networks: every network of a profile explained and measured, and what they say together.

``networks`` opens them, ``foreign`` one that others trained, ``measure`` explains and measures one of them,
``pooling`` averages over networks and people with intervals, ``tables`` writes it down.
"""
