"""Facts -> candidates and refusals: what could be rewritten, and why not where it can't."""
