"""State, step, loop, checkpoints: pure functions made by keyword-only factories."""
