import pytest

from uipad_cli.metrics.leaks import ranked


def test_what_tells_the_label_comes_first():
    bad = [False] * 12 + [True] * 12
    found = ranked({"nothing": [1.0] * 24, "less": [5.0] * 12 + [4.0] * 12, "some": list(range(12)) * 2}, bad)
    assert [leak.name for leak in found] == ["less", "nothing", "some"]
    assert (found[0].auroc, found[0].strength, found[0].way) == (0.0, 1.0, "lower")
    assert [leak.gives_away for leak in found] == [True, False, False]
    assert (found[0].good, found[0].defective) == (12, 12)


def test_names_are_told_from_each_other():
    bad = [False] * 10 + [True] * 10
    (found,) = ranked({"format": ["png"] * 10 + ["jpeg"] * 5 + ["bmp"] * 5}, bad)
    assert found.gives_away
    assert found.way == "different"
    (even,) = ranked({"format": ["png", "jpeg"] * 10}, bad)
    assert even.strength == 0.5


def test_few_parts_must_all_be_told():
    values = [0.0] * 9 + [3.0] + [2.0] + [4.0] * 19
    assert ranked({"x": values}, [False] * 10 + [True] * 20)[0].gives_away  # 0.995
    assert not ranked({"x": values[1:]}, [False] * 9 + [True] * 20)[0].gives_away
    assert ranked({"x": [1.0] * 5 + [2.0] * 5}, [False] * 5 + [True] * 5)[0].gives_away


def test_fewer_than_five_say_nothing():
    assert ranked({"x": [1.0] * 4 + [2.0] * 9}, [False] * 4 + [True] * 9) == []
    assert ranked({"x": []}, []) == []


def test_what_some_parts_lack_is_left_out():
    bad = [False] * 5 + [True] * 5
    assert [leak.name for leak in ranked({"x": [None, *[1.0] * 9], "y": [1] * 10}, bad)] == ["y"]


def test_lists_of_another_length_are_refused():
    with pytest.raises(ValueError, match="x: 3 values for 10 parts"):
        ranked({"x": [1.0] * 3}, [False] * 5 + [True] * 5)
