"""Arrays that are made once, row by row, and kept on disk: features, pictures."""
