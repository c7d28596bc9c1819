import numpy as np

from uipad_cli.engine.prototype_picture import SHOWN, TITLES, prototype_row


def test_each_tile_shows_the_places_of_one_prototype_and_how_many_they_are():
    photo = np.full((40, 40, 3), 200, np.uint8)
    owners = np.zeros((4, 4), int)
    owners[:, 3] = 7
    row = prototype_row(photo, owners, "good/000")
    assert len(row) == len(TITLES)
    assert [panel.caption for panel in row[:4]] == ["good/000", "2 in use", "prototype 1: 75 %", "prototype 8: 25 %"]
    assert all(panel.image is None for panel in row[4:])
    alone = row[3].image
    assert (alone[:, 30:] == 200).all()
    assert (alone[:, :30] == 40).all()
    assert len(np.unique(row[1].image.reshape(-1, 3), axis=0)) == 2


def test_of_many_prototypes_the_most_used_are_shown():
    owners = np.repeat(np.arange(12), [30, 20, 10, 9, 8, 7, 6, 4, 3, 1, 1, 1]).reshape(10, 10)
    row = prototype_row(np.zeros((50, 60, 3), np.uint8), owners, "")
    assert row[1].caption == "12 in use"
    assert [panel.caption for panel in row[2:]] == [
        f"prototype {place + 1}: {share} %" for place, share in enumerate([30, 20, 10, 9, 8][:SHOWN])
    ]
