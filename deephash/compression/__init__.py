"""Vectors kept as codes and read back from them: decoders, codes that suit them, and search by queries in float."""
