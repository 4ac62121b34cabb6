"""The same work in other frameworks: each file a program, run by its own Python."""
