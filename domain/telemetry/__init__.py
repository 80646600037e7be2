"""The time-series store: one port, two adapters."""
