"""The store: one SQLite file that knows every job."""
