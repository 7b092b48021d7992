"""Numbers and durations as people read them."""


def short_count(value: float) -> str:
    """1234 -> 1.23k, 20000 -> 20k, 1500000 -> 1.5M."""
    for limit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def clock(seconds: float, *, unit: bool = False) -> str:
    """75 -> `1:15`, 3700 -> `1:01:40`; with the unit of the first number, `1:15 min` and `1:01:40 h`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text, name = (f"{hours}:{minutes:02d}:{rest:02d}", "h") if hours else (f"{minutes}:{rest:02d}", "min")
    return f"{text} {name}" if unit else text
