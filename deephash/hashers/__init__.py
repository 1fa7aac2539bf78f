"""Hashers of one view or two: an encoder, a projection and a quantiser as one, saved and loaded."""
