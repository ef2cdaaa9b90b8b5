"""From files to models and back: reading without copying weights, external data, streaming writes."""
