"""Which items train, query and are searched: one file per kind of split."""
