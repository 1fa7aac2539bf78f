"""From a config to a run folder: fitting, scoring, reporting."""
