"""What support does on the page of a message: write a note, look after it, look at the raw bodies. POST only."""

from uuid import UUID

from django.contrib import messages as flashes
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.views.decorators.http import require_http_methods

from messaging import access, workbench
from messaging.mirror.redaction import storable_text
from messaging.models import Message, User
from messaging.views import messages
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest

EMPTY = "The note is empty. Nothing was kept."
LONG = "The note is longer than {} characters. Nothing was kept; your words are still here."
MOVED = "Somebody else has changed who looks after this message. Nothing was changed."
STRANGER = "Choose a colleague of support first."
# A GET comes from a log-in in between, which returns to the address that was asked: it shows the page and writes nothing.
post_or_return = require_http_methods(["GET", "HEAD", "POST"])


@post_or_return
def note(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Keeps an internal note; a refusal shows the page with every word that was typed."""
    found = _find(request, uuid)
    text = storable_text(request.POST.get("note", "")).strip()
    if request.method != "POST":
        return SeeOther(found.get_absolute_url())
    problem = EMPTY if not text else LONG.format(workbench.NOTE_LENGTH) if len(text) > workbench.NOTE_LENGTH else ""
    if problem:
        return messages.page(request, uuid, status=422, note_text=text, note_problem=problem)
    workbench.note(request.user, found, text)
    return SeeOther(f"{found.get_absolute_url()}#team")


@post_or_return
def care(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Takes the message, gives it to a colleague, or releases it; whoever changed it meanwhile stays."""
    found = _find(request, uuid)
    address = f"{found.get_absolute_url()}#team"
    if request.method != "POST":
        return SeeOther(address)
    owner, is_known = _owner(request.user, found, request.POST.get("owner", ""))
    if not is_known:
        flashes.error(request, STRANGER)
    elif not workbench.give(request.user, found, owner, seen=_number(request.POST.get("seen", ""))):
        flashes.error(request, MOVED)
    return SeeOther(address)


@post_or_return
def reveal(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Opens the raw bodies for this person and a few minutes; that they looked is kept."""
    found = _find(request, uuid)
    if request.method != "POST":
        return SeeOther(found.get_absolute_url())
    return SeeOther(f"{found.get_absolute_url()}?revealed={workbench.reveal(request.user, found)}#raw")


def _find(request: PersonRequest, uuid: UUID) -> Message:
    found = Message.objects.visible_to(request.user).filter(uuid=uuid, deleted_at=None).first()
    if found is None:
        raise Http404
    if not (access.can_review(request.user) or access.is_administrator(request.user)):
        raise PermissionDenied
    return found


def _owner(user: User, message: Message, word: str) -> tuple[User | None, bool]:
    """The person who is meant, nobody for "none"; and whether the word means anybody who may look after messages."""
    if word == "none":
        return None, True
    wanted = user.pk if word == "me" else _number(word)
    owner = next((one for one in workbench.colleagues(message) if one.pk == wanted), None)
    return owner, owner is not None


def _number(word: str) -> int | None:
    return int(word) if word.isascii() and word.isdecimal() and len(word) < 12 else None
