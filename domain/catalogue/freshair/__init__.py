"""Fresh-air units (新风机)."""
