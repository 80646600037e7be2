"""The service portal."""
