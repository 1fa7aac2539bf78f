"""Studies with real users: two runs judged blind on a local page, and what the judgements say."""
