"""The programs that Hydra runs: `train` and `evaluate`, in a clone, from the installed package, and as other processes."""
