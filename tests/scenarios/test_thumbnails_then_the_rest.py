"""The real processes: a rule that asks for thumbnails, and the fleet that then asks for the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from live_processes import Daemon

from runtime.formats.mcap_files import McapTopicReader
from runtime.formats.pull_files import PullFolder, PullRequest
from runtime.messages import ClipVariant
from runtime.recording.clip_file import read_manifest
from runtime.recording.verify import verify_clip

RULES = """\
rules:
  - name: driver_takeover
    description: The controller was engaged and stops being engaged.
    when: falling(controller.enabled)
    capture: {pre_s: 1, post_s: 1, variant: thumbnails}
"""


def test_a_clip_of_thumbnails_is_followed_by_the_video_that_the_fleet_asks_for(
    daemon: Callable[..., Daemon], tiny_drive: Path, tmp_path: Path
) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    car = daemon(drive=str(tiny_drive), rules={"files": [str(tmp_path / "rules.yaml")]})
    car.start()
    car.wait_for("recorder", lambda status: status["sealed"] >= 1, "a clip of thumbnails")
    (small,) = car.sealed_clips
    with McapTopicReader(small) as reader:
        said = read_manifest(reader)
    assert (said.variant, verify_clip(small).problems) == (ClipVariant.THUMBNAILS, [])
    assert set(said.cameras) == {"front", "rear", "side"}

    pulls = PullFolder(car.folder / "state" / "spool")
    assert pulls.ask(PullRequest("rest", ("front",), said.start_wall_ns, said.end_wall_ns, "wall"))
    car.wait_for("recorder", lambda status: status["pulls"]["sealed"] == 1, "the answer to a pull")
    assert [(answer.id, answer.state, answer.n) for answer in pulls.answers()] == [("rest", "sealed", 2)]
    full = car.sealed_clips[1]
    with McapTopicReader(full) as reader:
        manifest = read_manifest(reader)
    assert verify_clip(full).problems == []
    assert (manifest.kind, manifest.variant, list(manifest.cameras)) == ("pull", ClipVariant.FULL, ["front"])
    assert manifest.cameras["front"].first_ns <= said.start_ns
    history = car.wait_for("runtime", lambda status: status["history"]["held_s"] > 0, "history's reach")["history"]
    assert history["segments_given_up"] == 0
