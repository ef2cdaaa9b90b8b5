"""A document in, text out: one module per format, each with a function of the format's name.

Renderers read the document alone and compute nothing: a number that a report shows stands in its document.
"""
