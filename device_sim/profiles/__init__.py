"""Machine physics by equipment type."""
