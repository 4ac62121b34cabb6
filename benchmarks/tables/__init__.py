"""From what cells said to rows, result files, the page and its charts."""
