"""From a finished run to answers: see docs/architecture.md."""
