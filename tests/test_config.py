import pytest
from pydantic import BaseModel, ConfigDict, Field

from uipad_cli import config
from uipad_cli.errors import UsageError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    rate: float = Field(default=0.1, gt=0)
    name: str = "a"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: int = 3
    flag: bool = False
    inner: Inner = Inner()


def written(tmp_path, text, name="a.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_later_files_and_settings_win(tmp_path):
    first = written(tmp_path, "steps: 1\ninner: {rate: 0.5, name: x}\n", "a.yaml")
    second = written(tmp_path, "inner: {rate: 1e-3}\n", "b.yaml")
    merged = config.build(Outer, config.merge([first, second], ["steps=7"]))
    assert merged == Outer(steps=7, inner=Inner(rate=1e-3, name="x"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("on", "on"),
        ("no", "no"),
        ("010", 10),
        ("true", True),
        ("2024-01-01", "2024-01-01"),
        ("-.5", -0.5),
    ],
)
def test_yaml_reads_what_people_mean(text, value):
    assert config.merge([], [f"key={text}"]).values == {"key": value}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps: 1\nsteps: 2\n", "a.yaml:2: key 'steps' stands twice"),
        ("stesp: 1\n", "a.yaml:1: unknown key 'stesp'"),
        ("steps: 1\ninner:\n  rates: 2\n", "a.yaml:3: unknown key 'inner.rates'"),
        ("inner: {rate: -1}\n", "a.yaml:1: inner.rate = -1"),
        ("steps: many\n", "a.yaml:1: steps = 'many'"),
        ("- 1\n- 2\n", "not a table"),
        ("steps: [1\n", "a.yaml:2"),
        ("steps: !!python/object/apply:os.system ['true']\n", "a.yaml:1"),
        ("[" * 20000, "not valid YAML"),
        ("inner: 5\n", "inner"),
        ("a: &a {b: 1}\nc: *a\n", "a.yaml:2: references"),
        ("a: &a {b: *a}\n", "references"),
        ("[1, 2]: 3\n", "a key must be a word"),
    ],
)
def test_faults_name_file_line_and_key(tmp_path, text, told):
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        config.build(Outer, config.merge([path], []))
    assert told in caught.value.message


def test_unknown_key_names_the_nearest(tmp_path):
    with pytest.raises(UsageError) as caught:
        config.build(Outer, config.merge([], ["inner.nam=x"]))
    assert "'name'" in caught.value.cure
    assert "--set inner.nam=x" in caught.value.message


@pytest.mark.parametrize("setting", ["steps", "=3", "steps = [", "a.b=1"])
def test_bad_settings_are_usage_errors(setting):
    with pytest.raises(UsageError):
        config.build(Outer, config.merge([], [setting]))


def test_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.yaml"):
        config.merge([tmp_path / "nowhere.yaml"], [])
