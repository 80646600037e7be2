"""Post-repair verdicts: a pure, three-valued judge of a test run."""
