"""Simulated machines: physics and faults that know no rule, limit or plan."""
