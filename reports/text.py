"""Numbers as people read them."""


def short_count(value: float) -> str:
    """1234 -> 1.2k, 20000 -> 20k, 1500000 -> 1.5M."""
    for limit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"
