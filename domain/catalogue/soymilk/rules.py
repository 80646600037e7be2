"""Fault rules (equipment.md §6); data. Closed to the simulator."""
