"""Nearest neighbours behind one protocol: the exact answer, and FAISS."""
