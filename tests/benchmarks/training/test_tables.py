"""benchmarks/training/tables.py"""

from tables import table


def test_columns_are_the_keys_of_all_rows_and_bars_are_escaped():
    assert table([{"a": 1}, {"b": "x|y\nz"}]) == ["| a | b |", "| --- | --- |", "| 1 |  |", "|  | x\\|y z |"]
