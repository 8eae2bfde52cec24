"""Our POSTs, Catena's operations with their logs, people's decisions, and the gates that pause sending."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q

from messaging.states import UNSETTLED_OUTCOMES, AttemptOutcome, Authority, DecisionKind, GateCause, GateState


class Operation(models.Model):
    """Mirrored resource operation. `status` is Catena's word and may be one that we do not know."""

    catena_id = models.UUIDField(unique=True)
    # Its index begins with the connection.
    connection = models.ForeignKey("Connection", on_delete=models.PROTECT, related_name="operations", db_index=False)
    resource = models.CharField(max_length=100)
    operation_type = models.CharField(max_length=50)
    status = models.CharField(max_length=50)
    payload = models.JSONField(default=dict)
    resource_id = models.UUIDField(null=True, blank=True)  # links the message record that comes back
    source_id = models.CharField(max_length=200, blank=True)
    catena_created_at = models.DateTimeField()
    catena_updated_at = models.DateTimeField()
    first_seen_at = models.DateTimeField(auto_now_add=True)
    # What makes two payloads the same message (`mirror.fingerprint`); blank for anything but a new message.
    fingerprint = models.CharField(max_length=64, blank=True, default="", db_default="")
    # The matcher's self-test: when a listing first showed it, and whether echo and listing equal what we had posted.
    listed_at = models.DateTimeField(null=True, blank=True)
    is_as_posted = models.BooleanField(null=True, blank=True)
    raw = models.JSONField(default=dict)

    class Meta:
        ordering = ["-catena_created_at", "-id"]
        indexes = [
            models.Index(fields=["connection", "-catena_created_at"], name="operation_by_connection"),
            models.Index(
                fields=["resource_id"], condition=Q(resource_id__isnull=False), name="operation_of_record"
            ),  # mirror.messages
            models.Index(fields=["source_id"], condition=~Q(source_id=""), name="operation_source_id"),  # search
            models.Index(
                fields=["fingerprint", "catena_created_at"], condition=~Q(fingerprint=""), name="operation_by_print"
            ),  # reconcile
        ]

    def __str__(self) -> str:
        return f"{self.resource} {self.operation_type} {self.catena_id}"


class OperationLog(models.Model):
    """Mirrored: one attempt that Catena made at the provider. Headers passed the allow-list before they came here."""

    catena_id = models.UUIDField(unique=True)
    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="logs")
    status = models.CharField(max_length=50)
    error_type = models.CharField(max_length=50, blank=True)
    error_details = models.TextField(blank=True)
    response_status_code = models.IntegerField(null=True, blank=True)
    response_headers = models.JSONField(default=dict)
    # What the provider calls the request, from its headers (`mirror.redaction.REQUEST_ID_NAMES`).
    request_ids = ArrayField(models.CharField(max_length=256), default=list, blank=True, db_default=[])
    catena_created_at = models.DateTimeField()
    catena_updated_at = models.DateTimeField()

    class Meta:
        ordering = ["catena_created_at", "id"]
        indexes = [GinIndex(fields=["request_ids"], name="log_request_ids")]  # search

    def __str__(self) -> str:
        return f"{self.status} {self.response_status_code or ''}".strip()


class Decision(models.Model):
    """A person's verdict on an ambiguous send. Append-only; one decision buys at most one POST."""

    message = models.ForeignKey("Message", on_delete=models.PROTECT, related_name="decisions")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=20, choices=DecisionKind)
    reason = models.TextField()
    evidence = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=Q(kind__in=DecisionKind.values), name="decision_kind_is_known")]

    def __str__(self) -> str:
        return f"{self.kind} by {self.user}"


class SendAttempt(models.Model):
    """One POST of ours, committed before its first byte. `outcome` null means that it is open."""

    # `attempt_fence_once` begins with the message.
    message = models.ForeignKey("Message", on_delete=models.PROTECT, related_name="send_attempts", db_index=False)
    fence = models.PositiveIntegerField()
    authority = models.CharField(max_length=20, choices=Authority)
    decision = models.OneToOneField(Decision, on_delete=models.PROTECT, null=True, blank=True)
    prior_attempt = models.OneToOneField("self", on_delete=models.PROTECT, null=True, blank=True)
    worker = models.CharField(max_length=100)
    posting_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=20, choices=AttemptOutcome, null=True)  # noqa: DJ001 (null means open)
    http_status = models.PositiveSmallIntegerField(null=True)
    error_class = models.CharField(max_length=100, blank=True)
    error_text = models.TextField(blank=True)
    body_sha256 = models.CharField(max_length=64)
    fingerprint = models.CharField(max_length=64, blank=True, default="", db_default="")
    # Catena's operation of this very POST: from its answer, or found later. One operation proves one attempt.
    operation = models.OneToOneField(Operation, on_delete=models.PROTECT, null=True, related_name="send_attempt")
    # While nobody knows what became of it: how often it was looked for, and when next (null: no more).
    looks = models.PositiveSmallIntegerField(default=0, db_default=0)
    next_look_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["next_look_at"], condition=Q(next_look_at__isnull=False), name="attempt_looked_for"),
            models.Index(
                fields=["finished_at"], condition=Q(outcome__in=sorted(UNSETTLED_OUTCOMES)), name="attempt_unsettled"
            ),  # the ambiguity budget of a gate
            models.Index(
                fields=["fingerprint"],
                condition=Q(outcome__in=sorted(UNSETTLED_OUTCOMES), operation=None),
                name="attempt_unmatched",
            ),  # reconcile
        ]
        constraints = [
            models.UniqueConstraint(fields=["message", "fence"], name="attempt_fence_once"),
            models.UniqueConstraint(fields=["message"], condition=Q(outcome=None), name="attempt_one_open"),
            models.UniqueConstraint(
                fields=["message"], condition=Q(authority=Authority.COMPOSE), name="attempt_composed_once"
            ),
            models.CheckConstraint(
                condition=Q(authority=Authority.HUMAN, decision__isnull=False)
                | (~Q(authority=Authority.HUMAN) & Q(decision=None)),
                name="attempt_human_has_decision",
            ),
            models.CheckConstraint(
                condition=~Q(authority=Authority.PROOF_NOT_SENT) | Q(prior_attempt__isnull=False),
                name="attempt_proof_cites_prior",
            ),
            models.CheckConstraint(
                condition=Q(outcome=None, finished_at=None) | Q(outcome__isnull=False, finished_at__isnull=False),
                name="attempt_finished_has_outcome",
            ),
            models.CheckConstraint(
                condition=Q(outcome=None) | Q(outcome__in=AttemptOutcome.values), name="attempt_outcome_is_known"
            ),
            models.CheckConstraint(condition=Q(authority__in=Authority.values), name="attempt_authority_is_known"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.fence} of message {self.message_id}"


class Look(models.Model):
    """One search for an attempt whose answer was lost: what was asked and what was seen. Evidence for a person.

    `is_complete` says that every page was read. `newest_at` is the creation time of the newest operation that the listing
    showed, null when it showed none; only a listing that shows newer operations can prove that one is absent. `nearest`
    holds the operations that came closest without matching: id, creation time and the names of the fields that differ.
    """

    attempt = models.ForeignKey(SendAttempt, on_delete=models.CASCADE, related_name="searches")
    at = models.DateTimeField()
    window_from = models.DateTimeField()
    window_to = models.DateTimeField()
    is_complete = models.BooleanField()
    read_count = models.PositiveIntegerField(default=0)
    candidate_count = models.PositiveIntegerField(default=0)
    newest_at = models.DateTimeField(null=True)
    nearest = models.JSONField(default=list)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"look at {self.at:%H:%M:%S} for {self.attempt}"


class GateQuerySet(models.QuerySet["Gate"]):
    def closed(self, now: models.Expression | object) -> "GateQuerySet":
        """Gates that stop sending now: locked ones, and closed ones whose time has not come."""
        return self.filter(Q(state=GateState.LOCKED) | Q(state=GateState.CLOSED) & (Q(until=None) | Q(until__gt=now)))


class Gate(models.Model):
    """Pauses sending: for one connection, or with `connection` null for the whole credential."""

    connection = models.OneToOneField(
        "Connection", on_delete=models.CASCADE, null=True, blank=True, related_name="gate"
    )
    state = models.CharField(max_length=10, choices=GateState, default=GateState.OPEN)
    cause = models.CharField(max_length=20, choices=GateCause, blank=True, default="", db_default="")
    reason = models.CharField(max_length=300, blank=True)
    # When it opens by itself; null while a read of Catena must succeed first (`probe_at`) or a person must open it.
    until = models.DateTimeField(null=True, blank=True)
    probe_at = models.DateTimeField(null=True, blank=True)
    pause_seconds = models.FloatField(
        default=0, db_default=0, help_text="The last pause; the next one in a row is twice as long."
    )
    changed_at = models.DateTimeField(auto_now=True)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    changed_xid = models.BigIntegerField(default=0, editable=False)

    objects = GateQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(models.Value(1), condition=Q(connection=None), name="gate_one_for_the_credential"),
            models.CheckConstraint(condition=Q(state__in=GateState.values), name="gate_state_is_known"),
            models.CheckConstraint(condition=Q(cause="") | Q(cause__in=GateCause.values), name="gate_cause_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.connection or 'Credential'}: {self.state}"
