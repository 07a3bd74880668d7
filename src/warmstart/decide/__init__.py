"""Evidence and forecasts in, a Plan with reasons out: arrays and records only."""
