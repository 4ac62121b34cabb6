"""What does not train: its forward pass, its features computed once, their file."""
