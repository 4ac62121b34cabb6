"""A file per job: its flags, its cells, and `main`, which measures them."""
