"""Reports rebuilt from records alone: a self-contained page, a model card, summary rows. Never needs torch."""
