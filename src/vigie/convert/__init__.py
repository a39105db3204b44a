"""Texts of other systems, made from ours and read into ours: pure."""
