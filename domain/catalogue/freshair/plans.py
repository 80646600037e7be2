"""Test-run criteria and plans (equipment.md §7); data. Closed to the simulator."""
