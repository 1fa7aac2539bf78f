"""How the step of a threshold lets gradients pass: one file per relaxation."""
