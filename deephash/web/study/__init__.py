"""User studies: a local page on which participants judge two runs blind, and the analysis of their judgements."""
