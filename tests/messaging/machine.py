"""A random life of messages, played on the real engines and a real database, and judged after every step.

The model knows nothing of how the engines work. It knows what each step may do to the message it is about, that nothing
else may move but the next one in line, and what must be true of every message at any time. Only Catena is played.
"""

import uuid
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar

from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from messaging import gates, mirror, models, outbox, reconcile
from messaging.models.statements import prepared_cursor
from messaging.outbox.sending import ClaimLost, NoAuthority
from messaging.outbox.verdict import Verdict
from messaging.states import (
    HEAD_STATES,
    OPERATION_STATES,
    PROVEN_UNSENT_OUTCOMES,
    TRANSITIONS,
    UNDECIDED_STATES,
    UNSETTLED_OUTCOMES,
    AttemptOutcome,
    DecisionKind,
    GateState,
    MessageState,
)
from messaging.verify import RULES, verify
from tests.messaging.played import SEEN_SQL, Catena, Ground, Seen, changed

S, O, K = MessageState, AttemptOutcome, DecisionKind  # noqa: E741
BOUND = frozenset(OPERATION_STATES)
ENDS = {"success": S.SUCCEEDED, "failed": S.FAILED}
SECOND = timedelta(seconds=1)
PICK = st.integers(0, 11)
OUTCOME = st.sampled_from(sorted(set(O) - {O.LOST}))
STATUS = st.sampled_from(["pending", "success", "failed"])
# How far a message has gone on when its first POST turns up after all.
STAGES = ("asked", "sent", "unsent", "waiting", "queued", "claimed", "refused", "accepted", "lost")
# Steps by which the clock moves: within a lease, past it, past the first looks, past an absence, past an expiry.
JUMPS = (SECOND, 70 * SECOND, 200 * SECOND, timedelta(minutes=11), timedelta(hours=5), timedelta(hours=25))


NEEDED = (
    "state", "fence", "detached", "conversation_id", "connection_id", "lease_until", "claim_count", "expires_at",
    "accepted_at",
)  # fmt: skip


class Life(RuleBasedStateMachine):
    """`ground` is set by whoever runs it. `moves` and `guards` collect what all lives together have reached."""

    ground: ClassVar[Ground]
    moves: ClassVar[set[tuple[str, str]]] = set()
    guards: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.block: Any = transaction.atomic()
        self.block._from_testcase = True  # a durable commit may stand in it
        self.block.__enter__()
        self.now = timezone.now()
        self.catena = Catena()
        self.claims: list[outbox.Claim] = []
        self.claims_made: list[outbox.Claim] = []
        self.begun: set[tuple[int, int]] = set()
        self.has_found_late = False
        self.before: dict[int, str] = {}
        self.may: dict[int, set[str]] = {}

    def teardown(self) -> None:
        try:
            report = verify(self.now, rules=[one for one in RULES if one.name not in NOT_HERE])
            assert not report.breaches, [str(breach) for breach in report.breaches]
        finally:
            transaction.set_rollback(True)
            self.block.__exit__(None, None, None)

    # What is there to act on.

    def rows(self, *states: str) -> list[models.Message]:
        found = models.Message.objects.only(*NEEDED).order_by("id")
        return list(found.filter(state__in=states) if states else found)

    def first(self, **having: Any) -> int | None:
        """The key of the oldest such message."""
        return models.Message.objects.filter(**having).order_by("id").values_list("pk", flat=True).first()

    def pick(self, number: int, *states: str) -> models.Message | None:
        found = self.keys(*states)
        return models.Message.objects.only(*NEEDED).get(pk=found[number % len(found)]) if found else None

    def keys(self, *states: str) -> list[int]:
        """In the order of their making, as the last judgement saw them."""
        return [pk for pk, state in self.before.items() if not states or state in states]

    def talk(self, number: int) -> models.Conversation:
        return self.ground.conversations[number % len(self.ground.conversations)]

    def is_paused(self) -> bool:
        return models.Gate.objects.filter(state=GateState.CLOSED).exists()

    def reach(self, guard: str) -> None:
        self.guards.add(guard)

    def expect(self, message_id: int, *states: str) -> None:
        self.may.setdefault(message_id, set()).update(states)

    def expect_matches(self) -> None:
        """Whatever was posted and has no operation may be found at any look."""
        waiting = models.SendAttempt.objects.filter(outcome__in=UNSETTLED_OUTCOMES, operation=None)
        for message_id in waiting.values_list("message_id", flat=True):
            self.expect(message_id, *BOUND)

    def expect_listed(self) -> None:
        """Whatever a listing shows to have ended has ended, also for messages that nobody looks for."""
        for one in self.catena.operations:
            end = ENDS.get(one.record.status) if one.is_listed else None
            message = self.first(operation__catena_id=one.record.id) if end else None
            if message is not None and end is not None:
                self.expect(message, end)

    # Steps.

    @rule(place=PICK, text=st.sampled_from(["Call me", "Use gate 4"]), priority=st.sampled_from(["high", "medium"]))
    def compose(self, place: int, text: str, priority: str) -> None:
        talk = self.talk(place)
        line = models.Message.objects.filter(conversation=talk, detached=False, state__in=[*HEAD_STATES, S.WAITING])
        expected = S.WAITING if line.exists() else S.QUEUED
        token = uuid.uuid4()
        made = outbox.compose(self.ground.author, talk, text, priority, None, token, self.now)
        assert made.state == expected
        again = outbox.compose(self.ground.author, talk, "Another", priority, None, token, self.now)
        assert again.pk == made.pk, "one token, one message"
        self.judge()

    @rule(place=PICK)
    def claim(self, place: int) -> None:
        talk = self.talk(place)
        head = self.first(conversation=talk, state=S.QUEUED, not_before__lte=self.now, expires_at__gt=self.now)
        claimed = outbox.claim(talk.pk, outbox.Sender(self.catena, lambda: self.now))
        if head is not None and self.is_paused():
            self.reach("a closed gate stops a claim")
            head = None
        assert (claimed is None) == (head is None)
        if claimed is not None and head is not None:
            assert claimed.message_id == head
            self.claims.append(claimed)
            self.claims_made.append(claimed)
            self.expect(head, S.CLAIMED)
        self.judge()

    @precondition(lambda self: self.claims)
    @rule(number=PICK)
    def begin(self, number: int) -> None:
        claimed = self.claims[-1 - number % min(len(self.claims), 4)]
        message = models.Message.objects.only(*NEEDED).get(pk=claimed.message_id)
        outcomes = list(message.send_attempts.order_by("id").values_list("outcome", flat=True))
        is_held = (message.state, message.fence) == (S.CLAIMED, claimed.fence) and message.lease_until > self.now
        is_free = is_held and not self.is_paused()
        is_entitled = not outcomes or outcomes[-1] in PROVEN_UNSENT_OUTCOMES or self.has_fresh_decision(message)
        try:
            outbox.begin_post(claimed, claimed.draft, "life", self.now)
        except NoAuthority:
            assert not is_entitled
            self.reach("without authority nothing is posted")
            outbox.isolate(claimed, self.now)
            if message.state == S.CLAIMED and message.fence == claimed.fence:
                self.expect(message.pk, S.NEEDS_DECISION)
        except ClaimLost:
            assert not is_free
            self.reach("a lost claim posts nothing" if not is_held else "a closed gate stops a post")
        else:
            assert is_free
            assert is_entitled
            self.begun.add((claimed.message_id, claimed.fence))
            self.expect(message.pk, S.POSTING)
        self.judge()

    def has_fresh_decision(self, message: models.Message) -> bool:
        newest = message.decisions.exclude(kind=K.SEND_NEXT).order_by("-id").first()
        return newest is not None and newest.kind == K.SEND_AGAIN and not hasattr(newest, "sendattempt")

    @precondition(lambda self: self.claims)
    @rule(number=PICK, outcome=OUTCOME, took=st.booleans(), listed=st.booleans(), status=STATUS)
    def finish(self, number: int, outcome: O, took: bool, listed: bool, status: str = "pending") -> None:
        """The end of a POST, in time or late; an ambiguous one may have been taken or not. A webhook may come first."""
        claimed = self.claims[-1 - number % min(len(self.claims), 4)]
        message = models.Message.objects.only(*NEEDED).get(pk=claimed.message_id)
        has_begun = (claimed.message_id, claimed.fence) in self.begun
        if not has_begun and outcome != O.UNSENT:
            return
        record = None
        if outcome == O.ACCEPTED or (outcome == O.AMBIGUOUS and took):
            record = self.catena.take(claimed.draft, self.now, is_listed=listed)
            if status != "pending":
                self.catena.operations[-1].record = changed(record, status, self.now)
                mirror.apply_operation(self.catena.operations[-1].record)
        is_current = message.fence == claimed.fence
        if message.state == S.POSTING and is_current:
            ended = {"success": S.SUCCEEDED, "failed": S.FAILED}.get(status, S.ACCEPTED)
            after = {O.ACCEPTED: ended, O.REFUSED: S.REJECTED, O.AMBIGUOUS: S.UNKNOWN}.get(outcome, S.QUEUED)
            # An earlier POST of it may have been found meanwhile.
            self.expect(message.pk, after, *(BOUND if message.send_attempts.filter(operation__isnull=False) else ()))
        elif message.state == S.CLAIMED and is_current and outcome == O.UNSENT and not has_begun:
            self.expect(message.pk, S.QUEUED)
        elif outcome == O.ACCEPTED:
            self.reach("a late answer is not lost")
            self.expect(message.pk, message.state, *BOUND)
        said = record if outcome == O.ACCEPTED else None
        outbox.finish(claimed, Verdict(outcome, operation=said, reason="Said"), self.now)
        if has_begun:
            self.begun.discard((claimed.message_id, claimed.fence))
            self.claims.remove(claimed)
        self.judge()

    @rule()
    def reap(self) -> None:
        for message in self.rows(S.CLAIMED, S.POSTING):
            if message.lease_until is not None and message.lease_until < self.now:
                self.expect(message.pk, *((S.QUEUED, S.NEEDS_DECISION) if message.state == S.CLAIMED else (S.UNKNOWN,)))
                if message.state == S.CLAIMED and message.claim_count > 5:
                    self.reach("a poisonous message goes to a person")
        outbox.reap(self.now)
        self.judge()

    @rule(jump=st.sampled_from(JUMPS))
    def wait(self, jump: timedelta) -> None:
        self.now += jump
        self.judge()

    @rule()
    def expire(self) -> None:
        for message in self.rows(S.WAITING, S.QUEUED):
            if message.expires_at is not None and message.expires_at <= self.now:
                self.expect(message.pk, S.EXPIRED, S.NEEDS_DECISION, message.state)
        outbox.expire(self.now)
        self.judge()

    @rule(number=PICK, status=st.sampled_from(["pending", "success", "failed"]), age=st.sampled_from([-5, 0, 5]))
    def report(self, number: int, status: str, age: int) -> None:
        """Catena says something of an operation by a webhook: twice, late, out of order, or of one that nobody knows."""
        if not self.catena.operations:
            return
        played = self.catena.operations[-1 - number % len(self.catena.operations)]
        record = changed(played.record, status, self.now + age * SECOND)
        message = models.Message.objects.only(*NEEDED).filter(operation__catena_id=record.id).first()
        if message is not None:
            self.expect(message.pk, S.ACCEPTED, S.SUCCEEDED, S.FAILED)
            if message.state in {S.SUCCEEDED, S.FAILED} and status == "pending":
                self.reach("a late pending never reopens an end")
                self.may[message.pk] = {message.state}
        for _ in range(2):
            mirror.apply_operation(record)
        if age >= 0:
            played.record = record
        self.judge()

    @rule(number=PICK)
    def show(self, number: int) -> None:
        """An operation that lists had not shown appears in them."""
        hidden = [one for one in self.catena.operations if not one.is_listed]
        if hidden:
            hidden[number % len(hidden)].is_listed = True

    @rule()
    def look(self) -> None:
        self.expect_matches()
        self.expect_listed()
        for key in self.keys(S.UNKNOWN):
            self.expect(key, S.UNKNOWN, S.NEEDS_DECISION)
        summary = reconcile.look(self.catena, self.now)  # type: ignore[arg-type]
        if models.Message.objects.filter(question="several").exists():
            self.reach("more candidates than messages go to a person")
        if summary.bound:
            self.reach("a lost send is found")
        self.judge()

    @rule(number=PICK, kind=st.sampled_from(list(K)), is_stale=st.booleans(), by_colleague=st.booleans())
    def decide(self, number: int, kind: K, is_stale: bool, by_colleague: bool) -> None:
        message = self.pick(number, S.NEEDS_DECISION, S.UNKNOWN)
        if message is None:
            return
        user = self.ground.colleague if by_colleague else self.ground.author
        seen = "queued.0.0.0" if is_stale else reconcile.stamp(message)
        self.expect_matches()
        after = {
            K.SEND_AGAIN: (S.QUEUED, S.WAITING), K.WAS_SENT: (S.CLOSED_SENT,), K.LEAVE_UNSENT: (S.CLOSED_NOT_SENT,),
            K.SEND_NEXT: (),
        }[kind]  # fmt: skip
        self.expect(message.pk, message.state, *after)
        try:
            reconcile.decide(message, user, kind, "Because", seen=seen, now=self.now)
        except reconcile.NotDecidable as refusal:
            self.reach("a dialog that is out of date decides nothing" if is_stale else "what does not fit is refused")
            if "too early" in str(refusal):
                self.reach("a send is not repeated too early")
        else:
            assert not is_stale
            with suppress(reconcile.NotDecidable):
                reconcile.decide(message, self.ground.colleague, kind, "Me too", seen=seen, now=self.now)
                raise AssertionError("one dialog, one decision")
        self.judge()

    @rule(number=PICK)
    def cancel(self, number: int) -> None:
        message = self.pick(number)
        if message is None:
            return
        has_left = models.SendAttempt.objects.filter(message=message, outcome__in=UNSETTLED_OUTCOMES, operation=None)
        after = S.CLOSED_NOT_SENT if has_left.exists() else S.CANCELLED
        is_open = message.state in {S.WAITING, S.QUEUED}
        assert outbox.cancel(message, self.ground.author, self.now) == is_open
        if is_open:
            self.expect(message.pk, after)
        else:
            self.reach("too late to cancel")
        self.judge()

    @rule(number=PICK, is_sure=st.booleans())
    def resend(self, number: int, is_sure: bool) -> None:
        message = self.pick(number, S.FAILED)
        if message is None:
            return
        try:
            first = outbox.resend(message, self.ground.author, self.now, is_sure=is_sure)
        except outbox.MayHaveArrived:
            assert not is_sure
            self.reach("a failure that may have arrived asks first")
        else:
            second = outbox.resend(message, self.ground.colleague, self.now, is_sure=True)
            assert (second.message.pk, second.is_new) == (first.message.pk, False), "two people, one message"
        self.judge()

    @rule(is_closing=st.booleans())
    def gate(self, is_closing: bool) -> None:
        if is_closing:
            gates.close_by_hand(None, self.ground.author, "Stop", self.now)
        else:
            gates.open_by_hand(None, self.ground.author, "Go", self.now)
        self.judge()

    # Longer steps, so that a life gets far.

    @rule(place=PICK, text=st.sampled_from(["Call me", "Use gate 4"]), took=st.booleans(), listed=st.booleans())
    def lose(self, place: int, text: str, took: bool, listed: bool) -> None:
        """A send that ends without an answer."""
        self.gate(is_closing=False)
        self.compose(place, text, "high")
        self.send(place, O.AMBIGUOUS, took, listed)

    @rule(place=PICK, outcome=OUTCOME, took=st.booleans(), listed=st.booleans(), status=STATUS)
    def send(self, place: int, outcome: O, took: bool, listed: bool, status: str = "pending") -> None:
        known = len(self.claims)
        self.claim(place)
        if len(self.claims) > known:
            self.begin(0)
            self.finish(0, outcome, took, listed, status)

    @rule()
    def give_up_looking(self) -> None:
        self.now += timedelta(minutes=11)
        self.look()

    @rule(number=PICK, kind=st.sampled_from(list(K)))
    def ask_and_decide(self, number: int, kind: K) -> None:
        self.give_up_looking()
        self.decide(number, kind, False, False)

    @rule(place=PICK)
    def die_over_and_over(self, place: int) -> None:
        """A message that has ended every worker that prepared it, once more."""
        self.gate(is_closing=False)
        self.claim(place)
        models.Message.objects.filter(state=S.CLAIMED).update(claim_count=6)
        self.now += 70 * SECOND
        self.reap()

    @rule(place=PICK)
    def refuse_at_the_last_moment(self, place: int) -> None:
        """The author may no longer write to the fleet, say."""
        known = len(self.claims)
        self.claim(place)
        if len(self.claims) > known:
            self.expect(self.claims[-1].message_id, S.REJECTED)
            outbox.reject(self.claims[-1], "No longer allowed", self.now)
            self.judge()

    @precondition(lambda self: not self.has_found_late)
    @rule(place=PICK, stage=st.sampled_from(STAGES), status=STATUS)
    def find_late(self, place: int, stage: str, status: str) -> None:
        """A send that no list shows, until a person has decided and things have gone on; then it appears."""
        self.has_found_late = True  # once a life: it is long
        self.lose(place, "Call me", True, False)
        talk = self.talk(place)
        lost = models.Message.objects.filter(conversation=talk, state__in=UNDECIDED_STATES, detached=False).first()
        if lost is None:
            return
        if stage == "waiting":
            self.compose(place, "Use gate 4", "high")
            self.conclude(lost, K.SEND_NEXT)
        self.now += timedelta(minutes=11)
        self.look()
        if stage != "asked":
            self.conclude(lost, {"sent": K.WAS_SENT, "unsent": K.LEAVE_UNSENT}.get(stage, K.SEND_AGAIN))
        if stage == "claimed":
            self.claim(place)
        elif stage in {"refused", "accepted", "lost"}:
            self.send(place, {"refused": O.REFUSED, "accepted": O.ACCEPTED, "lost": O.AMBIGUOUS}[stage], False, True)
        for one in self.catena.operations:
            if not one.is_listed:
                one.is_listed, one.record = True, changed(one.record, status, self.now)
        self.now += timedelta(hours=1)
        if stage == "claimed":
            self.now -= timedelta(minutes=59, seconds=30)
            models.SendAttempt.objects.filter(next_look_at__isnull=False).update(next_look_at=self.now)
        self.look()

    def conclude(self, message: models.Message, kind: K) -> None:
        """A decision about this very message, if it is open for one."""
        found = self.keys(S.NEEDS_DECISION, S.UNKNOWN)
        if message.pk in found:
            self.decide(found.index(message.pk), kind, False, False)

    @rule(number=PICK)
    def close_what_never_ends(self, number: int) -> None:
        """Catena has had a message for a day and says nothing; a person closes it."""
        message = self.pick(number, S.ACCEPTED)
        if message is None:
            return
        self.now = max(self.now, (message.accepted_at or self.now) + timedelta(hours=25))
        self.expect_matches()  # a verdict looks first at what has come in, which may be another message's
        self.expect(message.pk, S.CLOSED_SENT)
        reconcile.decide(
            message, self.ground.author, K.WAS_SENT, "He has it", seen=reconcile.stamp(message), now=self.now
        )
        self.judge()

    @rule(place=PICK, took=st.booleans())
    def die_while_posting(self, place: int, took: bool) -> None:
        known = len(self.claims)
        self.claim(place)
        if len(self.claims) > known:
            self.begin(0)
            if took and (self.claims[-1].message_id, self.claims[-1].fence) in self.begun:
                self.catena.take(self.claims[-1].draft, self.now)
            self.now += 70 * SECOND
            self.reap()

    # Judgement.

    def judge(self) -> None:
        """After every step: what moved was allowed to, the line is whole, and no POST lacks its authority."""
        with prepared_cursor() as cursor:
            cursor.execute(SEEN_SQL)
            seen = [Seen(*row) for row in cursor.fetchall()]
        texts = {one.record.id: one.record.payload["message_text"] for one in self.catena.operations}
        for one in seen:
            before = self.before.get(one.pk, one.state)
            if before != one.state:
                assert S(one.state) in TRANSITIONS[S(before)], f"{before} -> {one.state} does not exist"
                is_promotion = (before, one.state) == (S.WAITING, S.QUEUED)
                is_allowed = is_promotion or one.state in self.may.get(one.pk, ())
                assert is_allowed, f"message {one.pk} moved from {before} to {one.state}"
                self.moves.add((before, one.state))
            assert one.posts <= 1 + one.decisions, f"message {one.pk} was posted {one.posts} times"
            if one.operation is not None:
                assert texts[one.operation] == one.text, "no message has another's operation"
            if one.is_sent_twice:
                self.reach("a message that was sent twice says so")
        heads = {one.conversation for one in seen if one.state in HEAD_STATES and not one.detached}
        waiting = {one.conversation for one in seen if one.state == S.WAITING}
        assert waiting <= heads, "nobody is left waiting behind nobody"
        self.before, self.may = {one.pk: one.state for one in seen}, {}


# The clock of a life runs ahead of the database's, and its Catena is asked without a budget.
NOT_HERE = frozenset({"summary_is_true"})
GUARDS = frozenset(
    {
        "a closed gate stops a claim", "a closed gate stops a post", "a lost claim posts nothing", "a late answer is not lost",
        "without authority nothing is posted", "a poisonous message goes to a person",
        "a late pending never reopens an end", "more candidates than messages go to a person", "a lost send is found",
        "a dialog that is out of date decides nothing", "what does not fit is refused", "a send is not repeated too early",
        "too late to cancel", "a failure that may have arrived asks first", "a message that was sent twice says so",
    }
)  # fmt: skip
