"""What a run and a sweep tell their reader: diagnostics, figures, tables, and what goes to Weights & Biases."""
