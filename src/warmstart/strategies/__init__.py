"""The strategies, one module each, behind one protocol (`protocol.py`)."""
