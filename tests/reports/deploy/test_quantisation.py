from mgnas.reports.deploy.quantisation import Quantised


def test_int8_words_say_what_happened():
    smaller = Quantised(25_000, 100_000, 0.95, 0.953, 1000, True)
    assert smaller.in_words() == "int8: 95.00 % instead of 95.30 % on 1,000 images, 25k bytes instead of 100k"
    larger = Quantised(150_000, 100_000, 0.95, 0.953, 1000, True)
    assert "larger" in larger.in_words()
    worse = Quantised(25_000, 100_000, 0.90, 0.953, 1000, False)
    assert "does not hold up and was not kept" in worse.in_words()
