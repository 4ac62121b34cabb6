"""State, step, loop, evaluation: pure functions made by keyword-only factories."""
