"""What every job measures with: cells, problems, the clock, and the machine's environment."""
