"""The laboratory that the notebooks and the Makefile call: experiments, figures, lessons and the plumbing of a run.

What FAM is and how it is measured stands in :mod:`fam_lib`, which knows nothing of this package.
"""
