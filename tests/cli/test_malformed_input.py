"""Malformed files and command lines: one clear line each, exit code 2, never a traceback, nothing left behind."""

import io
import random
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mgnas.cli.main import cli, main

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
# A config that is valid all the same is refused last of all, as no cluster answers there.
NOWHERE = ("--address", "127.0.0.1:1")
ODD_VALUES = [
    None, True, -1, 0, 1, 10**30, 1e308, float("nan"), float("-inf"), "", " ", "1e5", "null", "../../etc", "\0",
    "ä\u202e", "x" * 5000,
    [], [[]], [None], {}, {"low": 1}, {"low": 3, "high": 1}, {"low": "a", "high": None}, [1, "a", None],
    {1: 2}, {None: None}, [{"a": [1]}], b"\x00\xff", "2026-01-01",
]  # fmt: skip


def run(arguments) -> tuple[int, str, str]:
    """Exit code, standard output and standard error; property tests cannot use capsys."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def assert_refused(result, what) -> None:
    code, out, err = result
    assert code == 2, (what, code, out[-500:], err[-500:])
    lines = [line for line in (out + err).splitlines() if not line.startswith("Converting ")]
    if lines and lines[0].startswith("Usage:"):
        return  # A command without arguments shows its help.
    assert len(lines) == 1, (what, lines)
    assert lines[0].startswith("mgnas: error: "), (what, lines)
    assert len(lines[0]) < 8000


class Mutator:
    """Damages a config as people and machines do: a value, a key, a line, a byte."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def mutate(self, text: str) -> bytes:
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            kind = self.random.choice((self._value, self._value, self._value, self._key, self._line, self._characters))
            text = kind(text)
        content = text.encode("utf-8", errors="surrogatepass")
        if self.random.random() < 0.1:
            place = self.random.randrange(len(content) + 1)
            content = content[:place] + bytes(self.random.randrange(256) for _ in range(3)) + content[place:]
        return content

    def _value(self, text: str) -> str:
        def change(content, parent, key):
            parent[key] = self.random.choice(ODD_VALUES)

        return self._structural(text, change)

    def _key(self, text: str) -> str:
        def change(content, parent, key):
            if isinstance(parent, dict):
                name = self.random.choice((key[:-1], key + "s", "x", 7, "", key.upper())) if isinstance(key, str) else 1
                value = parent.pop(key)
                if self.random.random() < 0.7:
                    parent[name] = value

        return self._structural(text, change)

    def _structural(self, text: str, change) -> str:
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            return text
        places = []

        def visit(value) -> None:
            pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for key, inner in pairs:
                places.append((value, key))
                visit(inner)

        visit(content)
        if not places:
            return text
        parent, key = self.random.choice(places)
        change(content, parent, key)
        return yaml.safe_dump(content, sort_keys=False)

    def _line(self, text: str) -> str:
        lines = text.splitlines()
        if not lines:
            return text
        place = self.random.randrange(len(lines))
        what = self.random.choice(("delete", "double", "indent", "cut", "swap"))
        if what == "delete":
            del lines[place]
        elif what == "double":
            lines.insert(place, lines[place])
        elif what == "indent":
            lines[place] = self.random.choice((" ", "  ", "\t")) + lines[place]
        elif what == "cut":
            lines[place] = lines[place][: self.random.randrange(len(lines[place]) + 1)]
        else:
            other = self.random.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        return "\n".join(lines)

    def _characters(self, text: str) -> str:
        place = self.random.randrange(len(text) + 1)
        odd = self.random.choice(
            (":", "-", "{", "}", "[", "]", "&a ", "*a", "!!python/none", "#", "'", '"', "\t", "%", "|", "\ud800")
        )
        return text[:place] + odd + text[place + self.random.choice((0, 1)) :]


def assert_mutants_are_refused(seeds, tmp_path) -> None:
    path, runs = tmp_path / "mutant.yaml", tmp_path / "runs"
    for seed in seeds:
        mutator = Mutator(seed)
        original = mutator.random.choice(CONFIGS)
        # Digits: the only data set that every machine has.
        text = original.read_text().replace("name: cifar10\n  val", "name: digits\n  val")
        text = text.replace("name: tinyimagenet\n  val", "name: digits\n  val")
        content = mutator.mutate(text)
        path.write_bytes(content)
        result = run(["search", path, "--runs", runs, *NOWHERE])
        assert_refused(result, content)
    assert not runs.exists()


def test_mutated_configs_are_refused_in_one_line(tmp_path):
    assert_mutants_are_refused(range(60), tmp_path)


@pytest.mark.slow
def test_a_thousand_mutated_configs_are_refused_in_one_line(tmp_path):
    assert_mutants_are_refused(range(1000, 2000), tmp_path)


# -------------------------------------------------------------------------------------------------------- command lines

_COMMANDS = sorted(cli.commands)
_OPTIONS = sorted(
    {option for command in cli.commands.values() for parameter in command.params for option in parameter.opts}
)
_words = st.one_of(
    st.sampled_from(_OPTIONS),
    st.sampled_from(
        ["-1", "0", "1e9", "nan", "many", "none.yaml", "/none/runs/x", "ray://", "auto:", "a:b:c", "--", "-h5"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)


def assert_command_line_is_refused(command, words) -> None:
    # Help and version are no errors; `simulate` has valid words that start long computations.
    words = [word for word in words if word not in ("-h", "--help", "--version", "list")]
    missing = {"search": ["none.yaml"], "weights": ["--config", "none.yaml"], "simulate": ["none.json"]}
    assert_refused(run([command, *missing.get(command, ["none"]), *words]), (command, words))


@settings(max_examples=150)
@given(command=st.sampled_from(_COMMANDS), words=st.lists(_words, max_size=6))
@example(command="search", words=["--name", "x" * 5000])
@example(command="status", words=["x" * 5000])
def test_malformed_command_lines_are_refused_in_one_line(command, words):
    assert_command_line_is_refused(command, words)


@pytest.mark.slow
def test_a_thousand_malformed_command_lines_are_refused_in_one_line():
    check = given(command=st.sampled_from(_COMMANDS), words=st.lists(_words, max_size=8))(
        lambda command, words: assert_command_line_is_refused(command, words)
    )
    settings(max_examples=1000)(check)()


@pytest.mark.parametrize(
    "arguments", [["bogus"], ["--bogus"], ["search"], ["search", "a", "b"], ["status", "x" * 5000]]
)
def test_what_is_no_command_is_refused(arguments):
    assert_refused(run(arguments), arguments)


def test_a_yaml_bomb_is_refused_at_once(tmp_path):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(levels))
    result = run(["search", path])
    assert_refused(result, "bomb")
    assert "its aliases unfold to more than 100,000 values" in result[2]
    path.write_text("a: &a [*a]")
    assert_refused(run(["search", path]), "alias in itself")


def test_aliases_as_people_use_them_are_read(tmp_path):
    from mgnas.files import read_yaml

    path = tmp_path / "alias.yaml"
    path.write_text("a: &a {x: 1}\nb: *a\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1}}
