"""What people type, validated. Says what to do about each mistake; writes nothing."""

from functools import lru_cache
from importlib.resources import files
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.http import QueryDict

from messaging.access import caretakers
from messaging.incidents import LONGEST_NOTE, SNOOZES
from messaging.insight.filtering import LONGEST_QUERY, canonical_query
from messaging.mirror.redaction import storable, storable_text
from messaging.models import Connection, Conversation, FleetUser, Incident, Message, Theme, User, WebhookWork
from messaging.states import DecisionKind, Priority

DECIDE_AGAIN = "This form was damaged on the way. Your words are kept; look at the message again and decide."
DAMAGED = "This form was damaged on the way. Your text is kept; press Send again."


class TextField(forms.CharField):
    """A message's text: line ends as LF, outer blanks removed, counted in characters as people see them typed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(error_messages={"required": "Write a message first."}, widget=forms.Textarea, **options)

    def to_python(self, value: Any) -> Any:
        return super().to_python(value.replace("\r\n", "\n").replace("\r", "\n") if isinstance(value, str) else value)

    def validate(self, value: Any) -> None:
        super().validate(value)
        limit, length = settings.MESSAGE_TEXT_LIMIT, len(value)
        if length > limit:
            raise forms.ValidationError(
                f"The message is {length - limit} characters too long. Shorten it to {limit}.", code="max_length"
            )


class MessageForm(forms.Form):
    """What every message needs, however it is addressed."""

    message_text = TextField()
    priority = forms.ChoiceField(
        choices=Priority.choices,
        error_messages={"required": "Choose a priority.", "invalid_choice": "Choose Low, Medium or High."},
    )
    client_token = forms.UUIDField(error_messages={"required": DAMAGED, "invalid": DAMAGED})


class ReplyForm(MessageForm):
    """A message to the driver of a conversation, perhaps in answer to one of its messages."""

    reply_to = forms.CharField(required=False)

    def __init__(self, conversation: Conversation, user: User, data: Any = None) -> None:
        super().__init__(data)
        self.conversation, self.user = conversation, user

    def clean_reply_to(self) -> Message | None:
        word = self.cleaned_data["reply_to"]
        if not word:
            return None
        thread = Message.objects.visible_to(self.user).filter(conversation=self.conversation, deleted_at=None)
        try:
            return thread.get(uuid=UUID(word))
        except (ValueError, Message.DoesNotExist):
            raise forms.ValidationError(
                "The message that you answer is not in this conversation. Choose it again, or send without it."
            ) from None


class ComposeForm(MessageForm):
    """A message to a driver found by search. `connection` narrows nothing; it must agree with the driver when given."""

    recipient = forms.CharField(error_messages={"required": "Choose a driver."})
    connection = forms.CharField(required=False)
    is_confirmed = forms.BooleanField(required=False)
    field_order = ["recipient"]

    def __init__(self, user: User, data: Any = None, initial: Any = None) -> None:
        super().__init__(data, initial=initial)
        self.user = user

    def clean_recipient(self) -> FleetUser:
        drivers = FleetUser.objects.visible_to(self.user).reachable().select_related("connection__fleet")
        try:
            return drivers.get(catena_id=UUID(self.cleaned_data["recipient"]))
        except (ValueError, FleetUser.DoesNotExist):
            raise forms.ValidationError("Choose a driver from the list.") from None

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        driver, named = cleaned.get("recipient"), cleaned.get("connection")
        if driver is not None and named and named != str(driver.connection.catena_id):
            self.add_error("recipient", "This driver is on another connection. Choose the driver again.")
        return cleaned


class HandledForm(forms.Form):
    """What was done about a failure, in a person's own words; nothing is an answer too."""

    note = forms.CharField(
        required=False,
        max_length=Message._meta.get_field("handled_note").max_length,
        error_messages={"max_length": "The note is too long. Shorten it to %(limit_value)d characters."},
    )


class DecisionForm(forms.Form):
    """A verdict on a send that may have arrived: which, why, and what the person had seen when they decided."""

    kind = forms.ChoiceField(
        choices=DecisionKind.choices,
        error_messages={"required": "Choose what should happen.", "invalid_choice": "Choose what should happen."},
    )
    reason = forms.CharField(
        max_length=1000,
        error_messages={
            "required": "Say why: the next person will want to know.",
            "max_length": "The reason is too long. Shorten it to %(limit_value)d characters.",
        },
    )
    is_sure = forms.BooleanField(required=False)
    seen = forms.CharField(max_length=60, error_messages={"required": DECIDE_AGAIN, "max_length": DECIDE_AGAIN})

    def __init__(self, data: Any, *, may_be_twice: bool) -> None:
        super().__init__(data)
        self.may_be_twice = may_be_twice

    def clean_reason(self) -> str:
        return storable_text(self.cleaned_data["reason"])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        is_risky = self.may_be_twice and cleaned.get("kind") == DecisionKind.SEND_AGAIN
        if is_risky and not cleaned.get("is_sure"):
            self.add_error("is_sure", "Tick that you know the driver may get it twice, or choose something else.")
        return cleaned


class UnlockForm(forms.Form):
    """Letting sending go on after a restore."""

    is_sure = forms.BooleanField(error_messages={"required": "Tick that no worker runs on the database as it was."})
    reason = forms.CharField(
        max_length=500,
        error_messages={
            "required": "Say why sending may go on.",
            "max_length": "The reason is too long. Shorten it to %(limit_value)d characters.",
        },
    )

    def clean_reason(self) -> str:
        return storable_text(self.cleaned_data["reason"])


class ViewForm(forms.Form):
    """A filter of the operations list, to be kept under a name."""

    name = forms.CharField(
        max_length=60,
        error_messages={
            "required": "Give the view a name.",
            "max_length": "The name is too long. Shorten it to %(limit_value)d characters.",
        },
    )
    query = forms.CharField(
        max_length=LONGEST_QUERY,
        error_messages={
            "required": "Choose a filter first: a view without one is the whole list.",
            "max_length": "This filter is too long to be kept. Leave something out.",
        },
    )
    is_shared = forms.BooleanField(required=False)

    def clean_name(self) -> str:
        name = " ".join(storable(self.cleaned_data["name"]).split())
        if not name:
            raise forms.ValidationError(self.fields["name"].error_messages["required"])
        return name

    def clean_query(self) -> str:
        query = canonical_query(QueryDict(self.cleaned_data["query"]))
        for is_wrong, word in ((not query, "required"), (len(query) > LONGEST_QUERY, "max_length")):
            if is_wrong:
                raise forms.ValidationError(self.fields["query"].error_messages[word])
        return query

    @property
    def problems(self) -> list[str]:
        return [str(error) for errors in self.errors.values() for error in errors]


@lru_cache
def zone_names() -> tuple[str, ...]:
    """The zones of the world's countries, without the names that they had before ("Asia/Calcutta") or have besides."""
    table = (files("tzdata.zoneinfo") / "zone.tab").read_text(encoding="utf-8")
    return tuple(sorted({line.split("\t")[2] for line in table.splitlines() if not line.startswith("#")}))


def time_zones() -> list[tuple[str, list[tuple[str, str]]]]:
    """Every zone by its region, as a select groups them; the installation's own comes first as the blank choice."""
    regions: dict[str, list[tuple[str, str]]] = {}
    for name in zone_names():
        region, _, place = name.partition("/")
        regions.setdefault(region, []).append((name, place.replace("_", " ").replace("/", ", ")))
    return [("General", [("", f"As installed ({settings.TIME_ZONE})"), ("UTC", "UTC")]), *sorted(regions.items())]


class GateForm(forms.Form):
    """A person opens or closes a gate by hand, and says why."""

    action = forms.ChoiceField(
        choices=[("open", "Let sending go on"), ("close", "Pause sending")],
        error_messages=dict.fromkeys(("required", "invalid_choice"), "Choose whether sending pauses or goes on."),
    )
    reason = forms.CharField(
        max_length=200,
        error_messages={
            "required": "Write a reason: colleagues see it while messages wait.",
            "max_length": "The reason is too long. Shorten it to 200 characters.",
        },
    )

    def clean_reason(self) -> str:
        reason = " ".join(storable(self.cleaned_data["reason"]).split())
        if not reason:
            raise forms.ValidationError(self.fields["reason"].error_messages["required"])
        return reason


class IncidentForm(forms.Form):
    """One act of a person on an incident; `owner`, `until` or `note` belong to the act of that kind."""

    ACTIONS = ("take", "give", "acknowledge", "snooze", "note", "resolve")
    action = forms.ChoiceField(
        choices=[(action, action) for action in ACTIONS],
        error_messages=dict.fromkeys(("required", "invalid_choice"), "Choose what to do with the incident."),
    )
    owner = forms.ModelChoiceField(
        User.objects.none(),
        required=False,
        error_messages={"invalid_choice": "Choose somebody of support, or an administrator who sees the incident."},
    )
    until = forms.ChoiceField(
        choices=list(SNOOZES.items()), required=False, error_messages={"invalid_choice": "Choose for how long."}
    )
    note = forms.CharField(
        max_length=LONGEST_NOTE,
        required=False,
        error_messages={"max_length": f"The note is too long. Shorten it to {LONGEST_NOTE} characters."},
    )

    def __init__(self, incident: Incident, data: Any = None) -> None:
        super().__init__(data)
        owner: Any = self.fields["owner"]
        owner.queryset = caretakers(incident.places)

    def clean_note(self) -> str:
        return storable(self.cleaned_data["note"].replace("\r\n", "\n")).strip()

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("action") == "note" and not given.get("note") and "note" not in self.errors:
            self.add_error("note", "Write the note first.")
        if given.get("action") == "snooze" and not given.get("until") and "until" not in self.errors:
            self.add_error("until", "Choose for how long.")
        return given


class TrialForm(forms.Form):
    """A test message on one connection: to whom, what, and that it is meant."""

    recipient = forms.CharField(error_messages={"required": "Choose a driver for the test."})
    text = forms.CharField(
        max_length=160,
        error_messages={
            "required": "Write a text for the test.",
            "max_length": "The text is too long for a test. Shorten it to %(limit_value)d characters.",
        },
    )
    is_sure = forms.BooleanField(error_messages={"required": "Tick that you know the driver gets this message."})
    client_token = forms.UUIDField(
        error_messages=dict.fromkeys(("required", "invalid"), "Reload the page and try again.")
    )

    def __init__(self, connection: Connection, data: Any) -> None:
        super().__init__(data)
        self.connection = connection

    def clean_text(self) -> str:
        text = " ".join(storable_text(self.cleaned_data["text"]).split())
        if not text:
            raise forms.ValidationError(self.fields["text"].error_messages["required"])
        return text

    def clean_recipient(self) -> FleetUser:
        drivers = FleetUser.objects.reachable().select_related("connection").filter(connection=self.connection)
        try:
            return drivers.get(catena_id=UUID(self.cleaned_data["recipient"]))
        except (ValueError, FleetUser.DoesNotExist):
            raise forms.ValidationError("Choose a driver of this connection.") from None


class WebhookForm(forms.Form):
    """What a person wants done with the webhook subscriptions; removing them wants a tick."""

    action = forms.ChoiceField(
        choices=WebhookWork.choices,
        error_messages=dict.fromkeys(("required", "invalid_choice"), "Choose what should be done."),
    )
    is_sure = forms.BooleanField(required=False)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if given.get("action") == WebhookWork.REMOVE and not given.get("is_sure"):
            raise forms.ValidationError("Tick the box if all subscriptions should be removed.")
        return given


class SettingsForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """A person's own preferences."""

    time_zone = forms.ChoiceField(
        choices=time_zones, required=False, error_messages={"invalid_choice": "Choose a time zone from the list."}
    )
    theme = forms.ChoiceField(choices=Theme.choices, error_messages={"required": "Choose a theme."})
    undo_seconds = forms.TypedChoiceField(
        choices=User.UndoTime.choices, coerce=int, error_messages={"required": "Choose an undo time."}
    )

    class Meta:
        model = User
        fields = ["time_zone", "theme", "undo_seconds", "has_shortcuts"]

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        kept = self.instance.time_zone
        if kept and kept not in {"UTC", *zone_names()}:
            # An older name of a zone, which somebody has chosen: saving the rest must not take it away.
            self.fields["time_zone"].choices = [*time_zones(), ("Chosen before", [(kept, kept)])]  # type: ignore[attr-defined]
