"""Where the items of a parallel run are computed."""
