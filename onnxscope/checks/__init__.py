"""Facts -> findings: what must be known about a model before it ships, one function per rule."""
