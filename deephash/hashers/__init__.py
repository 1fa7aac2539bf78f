"""The hasher: encoder, projection and quantiser as one, of one view or of two, saved and loaded."""
