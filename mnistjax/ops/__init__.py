"""Pure array functions with the fastest lowering we know."""
