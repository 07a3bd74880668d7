"""Training: one Trainer subclass, the rates of each group over time, checkpoints, LoRA, and the probe's solver."""
