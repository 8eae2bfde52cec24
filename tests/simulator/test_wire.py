"""Identifiers and moments as Catena writes them."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from messaging.simulator.wire import fresh_id, is_uuid, read_moment, stable_id, write_moment


def test_stable_ids_are_version_5_and_depend_on_every_name() -> None:
    assert stable_id(7, "driver", 1) == stable_id(7, "driver", 1)
    assert len({stable_id(seed, number) for seed in range(30) for number in range(30)}) == 900
    assert {UUID(stable_id(number)).version for number in range(50)} == {5}
    assert {UUID(stable_id(number)).variant for number in range(50)} == {"specified in RFC 4122"}


def test_fresh_ids_are_version_7_unique_and_in_order() -> None:
    made = [fresh_id() for _ in range(5000)]

    assert made == sorted(set(made))
    assert {UUID(one).version for one in made} == {7}


def test_moments_are_written_in_utc_with_milliseconds_and_read_back() -> None:
    moment = datetime(2026, 5, 12, 16, 3, 21, 408000, tzinfo=timezone(timedelta(hours=2)))

    assert write_moment(moment) == "2026-05-12T14:03:21.408Z"
    assert read_moment("2026-05-12T14:03:21.408Z") == moment
    assert read_moment("2026-05-12T14:03") == datetime(2026, 5, 12, 14, 3, tzinfo=UTC)
    assert write_moment(None) is None


@pytest.mark.parametrize("text", ["", "now", "2026-05-12", "2026-05-12T25:00:00Z"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_moment(text)


def test_only_uuids_are_taken_for_uuids() -> None:
    assert is_uuid(fresh_id())
    assert not is_uuid("7")
    assert not is_uuid(7)
    assert not is_uuid(None)
