"""The programs that Hydra runs, in a clone, from the installed package, and as further processes of one job."""
