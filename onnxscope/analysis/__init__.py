"""Model -> Facts: shapes, counts, cost, receptive fields and memory, each computed from the values before it."""
