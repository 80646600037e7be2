"""Fault detection: a pure fold over readings in event time."""
