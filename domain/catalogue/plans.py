"""PLANS: the test-run plans of every equipment type. Closed to the simulator."""
