"""The compiled path for ordinary messages, and what translates the rules for it.

It is optional: where it was not built, or is switched off, Python does all of it. Python is the reference; what is
compiled answers exactly as Python would, and hands back whatever is not ordinary.
"""
