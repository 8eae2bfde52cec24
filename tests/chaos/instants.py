"""A death at every named instant of the failure table (reliability plan 2.11): the state afterwards must equal the table.

Each row is a scene in a database of its own, so all of them run side by side. The row numbers are the table's.
"""

import signal
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.chaos.installation import Installation, Tempo, wait_until
from tests.chaos.instants_web import play_web
from tests.chaos.points import HALF, HOLD
from tests.chaos.scene import PATIENCE, Scene

TEMPO = Tempo(lease=1.5, connect=0.5, read=1.0, total=1.2, sweep=1, factor=600.0)
SENT = {"first": "succeeded", "second": "succeeded"}
ASKED = {"first": "needs_decision", "second": "waiting"}
AT_ONCE = 10


def nothing_sent(point: str, state: str) -> Callable[[Scene], None]:
    """Rows 3, 4, 5: no byte left, so the message simply goes again."""

    def play(scene: Scene) -> None:
        scene.strike(point)
        scene.disk(first=state, second="waiting")
        scene.recover(**SENT)
        scene.posts(first=1, second=1)

    return play


def never_arrived(point: str) -> Callable[[Scene], None]:
    """Rows 6, 7: not accepted, which nobody can prove from outside: a person is asked."""

    def play(scene: Scene) -> None:
        scene.strike(point)
        scene.disk(first="posting", second="waiting")
        scene.recover(**ASKED)
        scene.posts(first=0, second=0, third=1)

    return play


def found_again(point: str) -> Callable[[Scene], None]:
    """Rows 8, 9, 12: Catena has it, and the listing says so."""

    def play(scene: Scene) -> None:
        scene.strike(point)
        scene.disk(first="posting", second="waiting")
        scene.recover(**SENT)
        scene.posts(first=1, second=1)

    return play


def next_one_lost(scene: Scene) -> None:
    """An operation belongs to the message whose words it carries, whatever else is looked for at that driver."""
    scene.strike(HALF)
    scene.script(second="reset_after")
    scene.recover(first="unknown or needs_decision")
    # At once: an operation that came much later than the first one ended would not be taken for it anyway.
    wait_until(lambda: scene.click(scene.decide("send_next")) == ["decided"], PATIENCE, "the decision")
    scene.await_states(first="needs_decision", second="succeeded")
    scene.posts(first=0, second=1)


def recorded(scene: Scene) -> None:
    scene.strike("11 recorded")
    scene.disk(first="accepted", second="queued or claimed or posting or accepted")
    scene.recover(**SENT)
    scene.posts(first=1, second=1)


def reaper_dies(point: str, state: str) -> Callable[[Scene], None]:
    def play(scene: Scene) -> None:
        scene.strike("8 request out, no answer yet")
        time.sleep(TEMPO.lease)
        scene.strike(point)
        scene.disk(first=state, second="waiting")
        scene.recover(**SENT)
        scene.posts(first=1, second=1)

    return play


def two_reapers(scene: Scene) -> None:
    scene.strike("8 request out, no answer yet")
    scene.recover(workers=3, **SENT)
    scene.posts(first=1, second=1)


def slow_answer(scene: Scene) -> None:
    """Row 15: the reaper gives up a worker that lives; its late answer still counts."""
    scene.script(first="slow")
    scene.worker(SEND_READ_SECONDS=6.0, SEND_TOTAL_SECONDS=8.0, SEND_ALARM_SECONDS=20.0, LEASE_SECONDS=0.8)
    scene.recover(**SENT)
    scene.posts(first=1, second=1)


def frozen_with_a_claim(scene: Scene) -> None:
    """Row 16: whoever wakes after its lease finds its claim gone."""
    frozen = scene.worker("16 4 claimed")
    scene.await_states(first="claimed")
    scene.recover(**SENT)
    frozen.send(signal.SIGCONT)
    time.sleep(1.0)
    scene.posts(first=1, second=1)


def frozen_with_intent(scene: Scene) -> None:
    frozen = scene.worker("16 6 intent, no byte yet")
    scene.await_states(first="posting")
    scene.recover(**ASKED)
    frozen.send(signal.SIGCONT)
    time.sleep(1.0)
    scene.posts(first=0, second=0)


def gate_closes(scene: Scene) -> None:
    """A claim is no right to send when sending is paused meanwhile."""
    frozen = scene.worker("16 4 claimed", LEASE_SECONDS=60.0)
    scene.await_states(first="claimed")
    scene.execute("INSERT INTO messaging_gate (state, reason, changed_at, changed_xid) VALUES ('closed', '', now(), 0)")
    frozen.send(signal.SIGCONT)
    scene.await_states(first="queued")
    time.sleep(0.5)
    scene.posts(first=0)
    scene.execute("UPDATE messaging_gate SET state = 'open'")
    scene.recover(**SENT)
    scene.posts(first=1, second=1)


def lease_ends_elsewhere(scene: Scene) -> None:
    """Row 28: only the database says whose claim it is, whatever a worker's own clock thinks."""
    frozen = scene.worker("16 4 claimed", LEASE_SECONDS=60.0)
    scene.await_states(first="claimed")
    scene.execute("UPDATE messaging_message SET lease_until = now() - interval '1 s' WHERE state = 'claimed'")
    scene.recover(**SENT)
    frozen.send(signal.SIGCONT)
    time.sleep(1.5)
    scene.posts(first=1, second=1)


def reconciler_dies(scene: Scene) -> None:
    scene.strike("8 request out, no answer yet")
    scene.strike("17 listed, not bound")
    scene.disk(first="unknown", second="waiting")
    scene.recover(**SENT)
    scene.posts(first=1, second=1)


def decider_dies(scene: Scene) -> None:
    """Row 18: nothing was decided, so the click is made again; one decision, one POST."""
    scene.strike(HALF)
    scene.recover(**ASKED)
    scene.click(scene.decide("send_again", "--point", "18 decided, not committed"))
    scene.disk(**ASKED)
    said = scene.click(scene.decide("send_again"))
    if said != ["decided"]:
        scene.findings.append(f"the second click was answered with {said!r}")
    scene.await_states(**SENT)
    scene.posts(first=1, second=1)


def two_deciders(scene: Scene) -> None:
    scene.strike(HALF)
    scene.recover(**ASKED)
    clicks = [scene.decide("send_again", "--as", f"decider{number}") for number in range(2)]
    said = sorted(scene.click(*clicks))
    if said != ["already decided", "decided"]:
        scene.findings.append(f"two who decided at once were told {said}")
    scene.await_states(**SENT)
    scene.posts(first=1, second=1)


def poison(scene: Scene) -> None:
    """A message whose preparation kills worker after worker goes to a person."""
    for _ in range(6):
        scene.strike("4 claimed")
    scene.recover(**ASKED)
    scene.posts(first=0, second=0)


def database_dies(scene: Scene) -> None:
    """Rows 10 and 24: the worker with the answer outlives the database and records it then."""
    hold = scene.installation.folder / "hold"
    hold.touch()
    scene.worker(HOLD, LEASE_SECONDS=15.0)
    wait_for_file = hold.with_suffix(".reached")
    while not wait_for_file.exists():
        time.sleep(0.05)
    scene.installation.server.crash()
    hold.unlink()
    time.sleep(1.0)
    scene.installation.server.start()
    scene.await_states(**SENT)
    scene.posts(first=1, second=1)


ROWS: dict[str, Callable[[Scene], None]] = {
    "row 3": nothing_sent("3 before the claim", "queued"),
    "row 4": nothing_sent("4 claimed", "claimed"),
    "row 5": nothing_sent("5 connected, no intent yet", "claimed"),
    "row 6": never_arrived("6 intent, no byte yet"),
    "row 7": never_arrived(HALF),
    "row 7 and on": next_one_lost,
    "row 8": found_again("8 request out, no answer yet"),
    "row 9": found_again("9 answer in, not recorded"),
    "row 11": recorded,
    "row 12": found_again("12 moved, not promoted"),
    "row 13a": reaper_dies("13 reaper between its steps", "posting"),
    "row 13b": reaper_dies("13 reaper after the posts", "unknown"),
    "row 14": two_reapers,
    "row 15": slow_answer,
    "row 16a": frozen_with_a_claim,
    "row 16b": frozen_with_intent,
    "row 16c": gate_closes,
    "row 28": lease_ends_elsewhere,
    "row 17": reconciler_dies,
    "row 18": decider_dies,
    "row 19": two_deciders,
    "poison": poison,
}
# After all others: what these do is felt by every scene.
ALONE = {"row 10": database_dies}


def run(seed: int, names: list[str] | None = None) -> dict[str, Any]:
    """Plays the rows; the figures, with `breaches`. `names` plays only these."""
    began = time.monotonic()
    wanted = {name: play for name, play in ROWS.items() if names is None or name in names}
    alone = {name: play for name, play in ALONE.items() if names is None or name in names}
    with Installation(seed, TEMPO, {"CHAOS_HOLD": "hold"}) as installation:
        installation.settings["CHAOS_HOLD"] = str(installation.folder / "hold")
        installation.catena.rule(fails=0.0)
        installation.open_rows()
        _prepare()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = dict(pool.map(lambda row: _play(installation, *row), wanted.items()))
        for row in alone.items():
            found |= [_play(installation, *row)]
        found |= play_web(installation, names)
    breaches = [f"{name}: {finding}" for name, findings in found.items() for finding in findings]
    return {"rows": sorted(found), "seconds": round(time.monotonic() - began, 1), "breaches": breaches}


def _prepare() -> None:
    from django.db import connection
    from django.utils import timezone

    from messaging import models, outbox
    from tests.chaos.rows import fill

    cast = fill(conversations=2, connections=1)
    author = models.User.objects.get(username=cast.authors[0])
    talks = [models.Conversation.objects.get(pk=place.conversation) for place in cast.places]
    for talk, text in ((talks[0], "first"), (talks[0], "second"), (talks[1], "third")):
        outbox.compose(author, talk, text, "medium", None, _token(text), timezone.now())
    connection.close()


def _token(text: str) -> Any:
    from uuid import NAMESPACE_URL, uuid5

    return uuid5(NAMESPACE_URL, text)


def _play(installation: Installation, name: str, play: Callable[[Scene], None]) -> tuple[str, list[str]]:
    scene = Scene(name, installation, {})
    try:
        scene.open()
        play(scene)
        scene.close()
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1].name
        scene.findings.append(f"{type(error).__name__} in {where}: {error}")
    return name, scene.findings
