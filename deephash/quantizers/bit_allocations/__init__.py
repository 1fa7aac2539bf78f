"""How VBQ spends its bits on dimensions: one file per way."""
