"""What the machine says beside the database: power, priority, when a copy was made."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from firedamp.service import surroundings
from firedamp.storage.records import FileProvenance, GitProvenance, KeyKind, Match, Provenance, Sight

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def supply(folder: Path, name: str, **told: str) -> None:
    (folder / name).mkdir()
    for key, value in told.items():
        (folder / name / key).write_text(value + "\n")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS is asked by pmset")
def test_a_battery_is_all_there_is_only_when_it_discharges_and_nothing_is_plugged_in(tmp_path: Path) -> None:
    assert not surroundings.on_battery(tmp_path / "a server has none")
    supply(tmp_path, "BAT0", type="Battery", status="Discharging")
    assert surroundings.on_battery(tmp_path)
    supply(tmp_path, "AC", type="Mains", online="0")
    assert surroundings.on_battery(tmp_path)
    (tmp_path / "AC" / "online").write_text("1\n")
    assert not surroundings.on_battery(tmp_path)


def test_a_mac_is_asked_and_one_that_does_not_answer_does_not_end_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not surroundings.on_battery(), "there is no pmset"
    (tmp_path / "pmset").write_text("#!/bin/sh\necho \"Now drawing from 'Battery Power'\"\n")
    (tmp_path / "pmset").chmod(0o700)
    assert surroundings.on_battery()


def test_the_wait_for_power_ends_at_once_where_there_is_power() -> None:
    surroundings.wait_for_power(lambda: False, asleep)


def test_the_wait_for_power_lasts_as_long_as_the_battery_is_all_there_is() -> None:
    answers, slept = [False, True, True], list[float]()
    surroundings.wait_for_power(answers.pop, slept.append)
    assert (answers, len(slept)) == ([], 2)


def asleep(seconds: float) -> None:
    pytest.fail(f"it sleeps {seconds} s")


def test_a_nice_process_has_the_lowest_priority() -> None:
    code = "import os; from firedamp.service.surroundings import be_nice; be_nice(); print(os.nice(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "19\n"


def sight(place: Provenance) -> Sight:
    return Sight(source="x", first_seen=NOW, match=Match(blob="b" * 40, kind=KeyKind.ACCESS_KEY), provenance=place)


def test_a_copy_is_as_old_as_its_file_or_its_commit(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    os.utime(file, (0, 86400))
    assert surroundings.changed(sight(FileProvenance(path=str(file)))) == datetime(1970, 1, 2, tzinfo=UTC)
    assert surroundings.changed(sight(FileProvenance(path=str(tmp_path / "gone")))) is None
    assert surroundings.changed(sight(GitProvenance(repository="/r", date=NOW))) == NOW


def test_places_are_those_of_this_home() -> None:
    file = Path.home() / ".s3cfg"
    file.write_text("x")
    assert surroundings.known_files() == [str(file.resolve())]
    place = surroundings.place_of(str(file.resolve()))
    assert place is not None
    assert place.name == "s3cmd"
