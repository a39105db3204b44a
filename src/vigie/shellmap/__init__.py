"""``vigie map``: commands run side by side, from the shell."""
