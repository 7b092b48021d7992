"""mgnas init: the config that it writes."""

from mgnas.search.config import SearchConfig


def test_init_writes_a_config_that_is_searched_as_it_is(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("init", "digits")
    assert code == 0
    assert out.splitlines()[-1] == "Search: mgnas search digits.yaml"
    assert "1,437 images of 10 classes, 8 x 8 pixels" in out
    assert SearchConfig.load(tmp_path / "digits.yaml").name == "digits"
    code, out, err = command("init", "digits")
    assert (code, out) == (2, "")
    assert (
        err == "mgnas: error: digits.yaml: exists already; choose another with --output, or replace it with --force\n"
    )
    assert command("init", "digits", "--force")[0] == 0
    code, _, err = command("init", "missing")
    assert code == 2
    assert err.startswith("mgnas: error: missing: no such file or folder")
