"""RULES: the fault rules of every equipment type. Closed to the simulator."""
