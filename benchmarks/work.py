"""What the benches run."""


def double(n: int) -> int:
    """Give twice a number: as little as a job can do."""
    return 2 * n


def large(size: int) -> str:
    """Give a large result."""
    return "x" * size
