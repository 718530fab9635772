"""FAM: visual explanations for feature representations, and measures of what they are worth."""

from fam_lib.explain import Explainer, Explanation, explain, explain_all
from fam_lib.methods import METHODS, Method

__all__ = ["METHODS", "Explainer", "Explanation", "Method", "explain", "explain_all"]
__version__ = "0.1.0"
