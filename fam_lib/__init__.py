"""FAM: visual explanations for feature representations, and measures of what they are worth."""

from fam_lib.explain import METHODS, Explainer, Explanation, Method, explain, explain_all

__all__ = ["METHODS", "Explainer", "Explanation", "Method", "explain", "explain_all"]
__version__ = "0.1.0"
