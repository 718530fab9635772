"""Checkers for the exercises of the notebooks, one module a notebook.

A checker takes the student's function, tries it on small seeded cases, and prints one line: *not done yet*,
*right*, or *not right* with the name of the mistake. It needs no network and no training.
"""
