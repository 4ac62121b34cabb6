"""State, step, loop, evaluation: arrays and pure functions, made by keyword-only factories."""
