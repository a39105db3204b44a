"""One function over many items, in the caller's own process and workers: no agent, no store."""
