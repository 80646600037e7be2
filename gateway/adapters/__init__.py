"""Foreign payload conventions: one file and one registration line each."""
