"""The command line: parse, call, print. One small module per concern; the verbs do the work."""
