"""Augmentations: random changes of training items that leave alone what they are."""
