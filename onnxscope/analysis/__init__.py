"""Model -> Facts: shapes, counts, cost, receptive fields and memory, each from the values before it."""
