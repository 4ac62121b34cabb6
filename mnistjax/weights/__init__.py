"""Keras's VGG16 weights in: strict, never by guess, and never trusting the file."""
