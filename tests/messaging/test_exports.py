"""Messages as a file: who may, what is in it, and that a spreadsheet reads none of it as a formula."""

import csv
import io
import re
import shutil
import subprocess
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection as database
from django.urls import reverse
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging import exports, models
from messaging.exports import cell, line
from messaging.insight.listing import OperationFilter
from messaging.models import AuditEntry
from tests import factories

BOM = "\ufeff"
# The launcher of Calc: an office without it opens no spreadsheet.
SOFFICE = shutil.which("localc") and (shutil.which("soffice") or shutil.which("libreoffice"))
HOSTILE = [
    "=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1+1", "\r=1+1", "\x00=1+1", "  =1+1", "\u00a0=1+1", "\ufeff=1+1", "\n=1+1",
    "'=1+1", '"=1+1', '=HYPERLINK("http://example.com","x")', "\uff1d1+1", "x;=1+1", "x\t=1+1", "=1+1;\"",
    "-2+3+cmd|' /C calc'!A0",
    '","=1+1', 'a\r\n=1+1', "{=1+1}", "@dock", "+49 30 1234567", "-5",
]  # fmt: skip


def allow(user: models.User) -> models.User:
    user.user_permissions.add(Permission.objects.get(codename="export_messages"))
    return user


def parsed(body: bytes) -> list[list[str]]:
    text = body.decode("utf-8")
    assert text.startswith(BOM)
    return list(csv.reader(io.StringIO(text.removeprefix(BOM), newline="")))


def exported(client: Any, query: str = "") -> list[list[str]]:
    answer = client.post(reverse("export"), {"filter": query})
    assert answer.status_code == 200
    return parsed(b"".join(answer.streaming_content))


def could_be_formula(text: str) -> bool:
    """As a spreadsheet might look at it: after blanks and what cannot be seen, the first sign decides."""
    bare = re.sub(r"^[\s\x00-\x20\x7f-\xa0\u200b-\u200f\ufeff]+", "", text)
    return bare[:1] in {"=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"} or text[:1] in {"\t", "\r", "\x00"}


pieces = st.one_of(
    st.sampled_from(["=", "+", "-", "@", "\t", "\r", "\n", "\x00", " ", "'", '"', ";", ",", "|", "\u00a0", "\ufeff", "\uff1d"]),
    st.text(max_size=3),
)  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(st.lists(pieces, max_size=8).map("".join))
def test_no_cell_begins_a_formula_and_nothing_but_guards_is_added(text: str) -> None:
    made = cell(text)
    assert not could_be_formula(made)
    assert "\x00" not in made
    assert made.replace("'", "") == text.replace("\x00", "").replace("'", "")


@settings(max_examples=500, deadline=None)
@given(st.lists(st.lists(pieces, max_size=5).map("".join), min_size=1, max_size=4))
def test_a_line_comes_back_as_the_cells_it_was_made_of(texts: list[str]) -> None:
    made = line(texts).decode("utf-8", "surrogatepass") if all(t.isprintable() for t in texts) else None
    if made is not None:
        assert next(csv.reader(io.StringIO(made, newline=""))) == [cell(text) for text in texts]
        assert made.startswith('"')
        assert made.endswith('"\r\n')


@settings(max_examples=500, deadline=None)
@given(st.lists(pieces, max_size=8).map("".join))
def test_no_cell_begins_a_formula_where_the_separator_is_another_one(text: str) -> None:
    for part in re.split("[;\t|\r\n]", cell(text))[1:]:
        assert not could_be_formula(part)


@pytest.mark.parametrize("text", ["Dock 4 = closed", "a-b", "mail me @ home", "", "10-4", "3+4 pallets"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert cell(text) == text


@pytest.mark.django_db
def test_a_row_tells_what_the_list_tells(conversation: models.Conversation, sol: models.User, client_of: Any) -> None:
    at = datetime(2026, 5, 12, 14, 3, 21, tzinfo=UTC)
    failed = factories.failed(conversation, text="=1+1", occurred_at=at, settled_at=at + timedelta(seconds=9))
    heads, row = exported(client_of(allow(sol)), "range=all")
    told = dict(zip(heads, row, strict=True))
    assert told["Written (UTC)"] == "2026-05-12T14:03:21Z"
    assert told["Ended (UTC)"] == "2026-05-12T14:03:30Z"
    assert (told["Status"], told["Text"], told["Driver"]) == ("Failed", "'=1+1", "Luis Ortega")
    assert (told["Error type"], told["Code"], told["Provider"]) == ("tsp", "503", "Samsara")
    assert told["Message"] == str(failed.uuid)
    assert failed.operation is not None
    assert told["Operation"] == str(failed.operation.catena_id)


@pytest.mark.django_db
def test_the_answer_is_a_file_that_no_browser_shows(sol: models.User, client_of: Any) -> None:
    answer = client_of(allow(sol)).post(reverse("export"))
    assert re.fullmatch(r'attachment; filename="backhaul-messages-[0-9TZ-]+\.csv"', answer["Content-Disposition"])
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert b"".join(answer.streaming_content).startswith(b"\xef\xbb\xbf")


@pytest.mark.django_db
def test_the_filter_of_the_list_decides_and_the_audit_keeps_it(
    conversation: models.Conversation, sol: models.User, client_of: Any
) -> None:
    wanted = factories.failed(conversation, response_status_code=429)
    factories.failed(conversation, response_status_code=503)
    rows = exported(client_of(allow(sol)), "status=failed&code=429")
    assert [row[rows[0].index("Message")] for row in rows[1:]] == [str(wanted.uuid)]
    (noted,) = AuditEntry.objects.filter(action="export")
    assert (noted.user, noted.detail) == (sol, {"filter": "status=failed&code=429", "rows": 1, "is_cut": False})


@pytest.mark.django_db
def test_a_person_exports_only_what_they_see(
    conversation: models.Conversation, mara: models.User, outsider: models.User, client_of: Any
) -> None:
    factories.failed(conversation)
    assert len(exported(client_of(allow(mara)), "range=all")) == 2
    assert len(exported(client_of(allow(outsider)), "range=all")) == 1
    refused = client_of(outsider).post(
        reverse("export"), {"filter": f"connection={conversation.connection.catena_id}&range=all"}
    )
    assert refused.status_code == 303  # a filter that would mean more than it says is not acted on


@pytest.mark.django_db
@pytest.mark.parametrize(("person", "status"), [("mara", 403), ("sol", 403), ("ada", 200)])
def test_without_the_permission_nobody_exports_but_a_superuser(
    person: str, status: int, conversation: models.Conversation, client_of: Any, request: pytest.FixtureRequest
) -> None:
    factories.failed(conversation)
    client = client_of(request.getfixturevalue(person))
    assert client.post(reverse("export")).status_code == status
    assert ("Export as CSV" in client.get(reverse("operations")).content.decode()) is (status == 200)
    assert client.get(reverse("export")).status_code == 405


@pytest.mark.django_db
def test_the_eleventh_file_of_an_hour_is_refused_and_the_filter_stays(
    sol: models.User, mara: models.User, client_of: Any
) -> None:
    client = client_of(allow(sol))
    for _ in range(exports.MOST_EXPORTS):
        exported(client)
    answer = client.post(reverse("export"), {"filter": "status=failed&code=429"})
    assert (answer.status_code, answer["Location"]) == (303, "/ops/?status=failed&code=429")
    assert "10 files an hour are the most. The next one can be made in" in client.get("/ops/").content.decode()
    assert AuditEntry.objects.filter(action="export").count() == exports.MOST_EXPORTS
    exported(client_of(allow(mara)))
    assert exports.reserve(sol, {}, timezone.now() + timedelta(hours=1)) is None


@pytest.mark.django_db
def test_an_administrator_gives_and_takes_the_permission(ada: models.User, sol: models.User, client_of: Any) -> None:
    client, address = client_of(ada), f"/admin/messaging/user/{sol.pk}/change/"
    form = {
        "username": "sol", "first_name": "Sol", "last_name": "A", "role": "support", "is_active": "on", "undo_seconds": 8,
        "theme": "system", "memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0,
    }  # fmt: skip
    assert client.post(address, {**form, "may_export": "on"}).status_code == 302
    assert client_of(sol).post(reverse("export")).status_code == 200
    assert 'name="may_export"' in client.get(address).content.decode()
    assert client.post(address, form).status_code == 302
    assert client_of(sol).post(reverse("export")).status_code == 403


@pytest.mark.django_db
def test_an_administrator_reads_of_a_superuser_whether_they_may(ada: models.User, client_of: Any) -> None:
    plain = factories.UserFactory(username="pat", role=models.Role.ADMINISTRATOR, is_staff=True)
    page = client_of(plain).get(f"/admin/messaging/user/{ada.pk}/change/")
    assert page.status_code == 200
    assert "May export messages" in page.content.decode()
    assert 'name="may_export"' not in page.content.decode()


def many(conversation: models.Conversation, count: int) -> None:
    """That many failures, copied by the database from one."""
    made = factories.OutgoingFactory(conversation=conversation, state="expired", text="Dock is closed " * 8)
    columns = [field.column for field in models.Message._meta.concrete_fields if not field.primary_key]
    fresh = {"uuid": "gen_random_uuid()", "client_token": "gen_random_uuid()", "seq": "seq + n"}
    fresh["occurred_at"] = "occurred_at - n * interval '1 second'"
    listed, values = ", ".join(columns), ", ".join(fresh.get(name, name) for name in columns)
    with database.cursor() as cursor:
        # Foreign keys are the first one's: asked of each, they would take longer than all the rest.
        cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL session_replication_role = replica")
        cursor.execute(
            f"INSERT INTO messaging_message ({listed}) SELECT {values} FROM messaging_message,"
            f" generate_series(1, %s) n WHERE id = %s",
            [count - 1, made.pk],
        )
        cursor.execute("SET LOCAL session_replication_role = origin")


def peak_of_export(sol: models.User, now: datetime, most: int) -> tuple[int, int, bytes]:
    """Lines, peak of memory in bytes, and the last line, of an export that is read as a client reads it."""
    found = exports.chosen_messages(sol, OperationFilter(span="all"), now, {})
    tracemalloc.start()
    count, last = 0, b""
    for count, last in enumerate(exports.lines(found, now, {}), start=1):  # noqa: B007
        if count == most:
            break
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return count, peak, last


@pytest.mark.chaos  # ten seconds of a processor, as every allocation is noted
@pytest.mark.django_db
def test_fifty_thousand_rows_stream_in_flat_memory_and_the_last_line_says_that_there_are_more(
    conversation: models.Conversation, sol: models.User
) -> None:
    many(conversation, exports.MOST_ROWS + 10)
    now = timezone.now()
    _, few_peak, _ = peak_of_export(sol, now, exports.CHUNK)
    lines, peak, last = peak_of_export(sol, now, 10**9)
    print(f"{lines} lines: peak {peak / 1e6:.1f} MB; the first {exports.CHUNK}: {few_peak / 1e6:.1f} MB")  # noqa: T201
    assert lines == exports.MOST_ROWS + 2
    assert last.startswith(b'"Cut after 50000 rows')
    assert peak < few_peak * 2 < 60_000_000
    found = exports.chosen_messages(sol, OperationFilter(span="all"), now, {})
    assert exports.count(found) == exports.MOST_ROWS + 1
    assert exports.file_name(exports.count(found), now).endswith("-first-50000.csv")


@pytest.mark.skipif(SOFFICE is None, reason="NOT RUN: LibreOffice is not installed (Debian package `libreoffice-calc`)")
@pytest.mark.parametrize("separator", ["44", "59", "9"])
def test_a_spreadsheet_finds_no_formula_in_a_hostile_file(tmp_path: Path, separator: str) -> None:
    """Opened by LibreOffice headless, with the comma and with the separators of other countries."""
    hostile = tmp_path / "hostile.csv"
    hostile.write_bytes(BOM.encode() + b"".join(line([text, text]) for text in HOSTILE))
    subprocess.run(
        [str(SOFFICE), f"-env:UserInstallation=file://{tmp_path}/profile", "--headless", f"--infilter=CSV:{separator},34,76,1",
         "--convert-to", "fods", "--outdir", str(tmp_path), str(hostile)],
        check=True, capture_output=True, timeout=180,
    )  # fmt: skip
    opened = (tmp_path / "hostile.fods").read_text(encoding="utf-8")
    assert opened.count("<table:table-row") >= len(HOSTILE)
    assert "table:formula" not in opened
