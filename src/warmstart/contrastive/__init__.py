"""One InfoNCE behind sentence pairs, images and text, two views and two towers: loss, negatives, gradient caching."""
