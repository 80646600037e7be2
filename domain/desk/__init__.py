"""The commands: one function is one transaction."""
