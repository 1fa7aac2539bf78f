"""The programs that Hydra runs: from a clone, from the installed package, and as further processes of a job."""
