"""Retrieval judged: ranking metrics over whole catalogues, and the baselines that any model must beat."""
