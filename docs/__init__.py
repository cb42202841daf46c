"""Pages of the documentation, and what draws their figures."""
