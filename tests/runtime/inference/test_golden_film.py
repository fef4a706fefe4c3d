"""Decoding and tracking give, to the bit, what they gave when each object was handled by itself."""

from __future__ import annotations

from itertools import islice

import pytest
from golden_film import TRACK_FIELDS, load_film, load_made, play, text_of


@pytest.mark.parametrize("looks_ahead", [False, True])
def test_every_track_scalar_and_detection_of_the_film_is_what_it_was(looks_ahead: bool) -> None:
    made = load_made()
    for tick, (played, expected) in enumerate(zip(play(load_film(), looks_ahead), made, strict=True)):
        detections, control, scalars, tracks = text_of(played)
        assert [detections, control, scalars] == expected[:3], f"tick {tick}"
        assert [track[0] for track in tracks] == [track[0] for track in expected[3]], f"ids of tick {tick}"
        for track, before in zip(tracks, expected[3], strict=True):
            assert dict(zip(TRACK_FIELDS, track, strict=True)) == dict(zip(TRACK_FIELDS, before, strict=True)), tick


def test_the_film_holds_what_is_worth_comparing() -> None:
    made = load_made()
    tracks = [dict(zip(TRACK_FIELDS, track, strict=True)) for tick in made for track in tick[3]]
    assert len(tracks) / len(made) > 40
    for field in TRACK_FIELDS:
        told = sum(track[field] is not None for track in tracks)
        least = 0 if field.startswith("predicted_") else len(made)  # hydra_mini says nothing of the kind
        assert told >= least, field
    assert {track["lane"] for track in tracks} == {"ego", "left", "right", "other", None}
    assert any(track["confirming_cameras"] for track in tracks)
    assert {track["visible"] for track in tracks} == {True, False}
    assert any(tick[0] is None for tick in made)


@pytest.mark.parametrize("tick", [0, 20])
def test_a_film_that_changes_by_one_step_is_noticed(tick: int) -> None:
    film = load_film()
    row, class_id, y, x = (int(places[0]) for places in (film["heat"][tick] > 150).nonzero())
    film["heat"][tick, row, class_id, y, x] += 1
    played = next(islice(play(film), tick, None))
    assert text_of(played)[0] != load_made()[tick][0]
