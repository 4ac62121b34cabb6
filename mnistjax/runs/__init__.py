"""One run directory: trained into, stopped, resumed, looked at."""
