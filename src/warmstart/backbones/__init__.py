"""Pretrained models: finding and loading them, their layer groups, their features. Facts only; nothing trains here."""
