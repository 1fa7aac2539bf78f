"""Reports of runs and sweeps: diagnostics, figures, tables and Weights & Biases logs."""
