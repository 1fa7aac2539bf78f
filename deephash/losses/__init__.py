"""What joint training minimises, from relaxed codes of a batch: one file per published loss."""
