"""The client's requests against the contract, and its paging. The fake refuses whatever `openapi.yaml` does not declare."""

import json
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from messaging.catena.client import CatenaClient
from messaging.catena.errors import BadPayload, Refused, Unauthorized
from messaging.catena.records import Record
from messaging.catena.session import USER_AGENT
from messaging.catena.types import GroupMessageDraft, MessageDraft
from tests.catena.fake_catena import FakeCatena, Reply, example

ID = UUID("019de3a1-4b7c-7d10-8f52-2a6b9c0d1e31")
FLEETS = (UUID("b6a0f5de-52b1-4c7e-8a40-9f3d0a1c7e21"), UUID("b6a0f5de-52b1-4c7e-8a40-9f3d0a1c7e22"))
START = datetime(2026, 5, 12, 0, 0, tzinfo=UTC)
WINDOW: Any = {"from_datetime": START, "to_datetime": START + timedelta(days=1)}

CALLS: dict[str, Callable[[CatenaClient], Any]] = {
    "listFleets": lambda client: list(client.list_fleets()),
    "listConnections": lambda client: list(client.list_connections(fleet_ids=FLEETS)),
    "getConnection": lambda client: [client.get_connection(ID)],
    "getDataFreshness": lambda client: client.data_freshness(fleet_ids=FLEETS),
    "listTspIntegrations": lambda client: list(client.list_tsps()),
    "listUsers": lambda client: list(client.list_users(connection_id=ID, fleet_ids=FLEETS, is_driver=False)),
    "getUser": lambda client: [client.get_user(ID)],
    "listMessages": lambda client: list(client.list_messages(connection_id=ID, fleet_ids=FLEETS, **WINDOW)),
    "listGroupMessages": lambda client: list(client.list_group_messages(connection_id=ID, fleet_ids=FLEETS, **WINDOW)),
    "listResourceOperations": lambda client: list(
        client.list_operations(connection_id=ID, resource="message", operation="create", **WINDOW)
    ),
    "getResourceOperation": lambda client: [client.get_operation(ID, ID)],
    "listWebhooks": lambda client: list(client.list_webhooks(event_name="message.added", status="active")),
    "createWebhook": lambda client: client.create_webhook(
        "https://backhaul.test/hooks/catena/", "message.*", "a secret of ours", {"fleet_refs": ["ACME-0042"]}
    ),
    "getWebhook": lambda client: [client.get_webhook(ID)],
    "updateWebhook": lambda client: [client.update_webhook(ID, secret="another secret of ours")],
    "activateWebhook": lambda client: [client.activate_webhook(ID)],
    "pauseWebhook": lambda client: [client.pause_webhook(ID)],
    "getWebhookMetrics": lambda client: [client.webhook_metrics(ID)],
    "listWebhookLogs": lambda client: list(
        client.webhook_logs(ID, start_date=START, end_date=START + timedelta(days=1), status="failed")
    ),
}


@pytest.mark.parametrize("operation", CALLS)
def test_each_call_makes_one_declared_request_and_reads_its_answer(
    catena: FakeCatena, client: CatenaClient, operation: str
) -> None:
    records = CALLS[operation](client)
    assert [request.operation for request in catena.seen] == ["requestToken", operation]
    assert records
    assert all(isinstance(record, Record) and record.raw for record in records)


def test_calls_without_an_answer_body_make_one_declared_request(catena: FakeCatena, client: CatenaClient) -> None:
    client.delete_webhook(ID)
    client.replay_webhook(ID)
    assert [request.operation for request in catena.seen[1:]] == ["deleteWebhook", "replayWebhookDeadLetters"]


def test_every_request_names_us_and_asks_for_plain_json(
    catena: FakeCatena, client: CatenaClient, draft: MessageDraft
) -> None:
    client.create_message(draft)
    list(client.list_fleets())
    client.delete_webhook(ID)
    assert {request.headers["User-Agent"] for request in catena.seen} == {USER_AGENT}
    assert {request.headers["Accept-Encoding"] for request in catena.seen} == {"identity"}
    assert {request.headers["Accept"] for request in catena.seen} == {"application/json"}


def test_the_user_agent_carries_the_version_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"Backhaul/{project['project']['version']}" == USER_AGENT


def test_a_message_is_sent_as_the_contract_writes_it(
    catena: FakeCatena, client: CatenaClient, draft: MessageDraft
) -> None:
    operation = client.create_message(draft)
    (request,) = catena.of("createMessage")
    assert json.loads(request.body) == example("message_create_request")
    assert request.query == {"is_sync": ["false"]}
    assert (operation.id, operation.status) == (UUID(example("message_create_202")["id"]), "pending")
    assert operation.raw == example("message_create_202")


def test_a_reply_names_the_message_it_answers(catena: FakeCatena, client: CatenaClient) -> None:
    wanted = example("message_create_request_reply")
    connection, sender, recipient, reply_to = (
        UUID(wanted[name]) for name in ("connection_id", "sender_id", "recipient_id", "reply_to_message_id")
    )
    text, priority = wanted["message_text"], wanted.get("priority")
    client.create_message(MessageDraft(connection, sender, recipient, text, priority, reply_to))
    sent = json.loads(catena.of("createMessage")[0].body)
    assert sent == {name: value for name, value in wanted.items() if value is not None}
    assert sent["reply_to_message_id"] == str(reply_to)


def test_a_group_message_is_sent_as_the_contract_writes_it(
    catena: FakeCatena, client: CatenaClient, group_draft: GroupMessageDraft
) -> None:
    operation = client.create_group_message(group_draft)
    assert json.loads(catena.of("createGroupMessage")[0].body) == example("group_message_create_request")
    assert operation.connection_id == group_draft.connection_id
    assert operation.resource == "group_message"


def test_text_that_utf8_cannot_hold_is_still_sent_as_valid_json(catena: FakeCatena, client: CatenaClient) -> None:
    client.create_message(MessageDraft(ID, ID, ID, "half a pair \ud83d, ünïcode 🚚"))
    assert json.loads(catena.of("createMessage")[0].body)["message_text"] == "half a pair \ud83d, ünïcode 🚚"


@pytest.mark.parametrize(
    ("status", "name", "word"),
    [(200, "message_create_200_sync", "success"), (502, "message_create_502_sync", "failed")],
)
def test_a_synchronous_send_returns_its_finished_operation(
    catena: FakeCatena, client: CatenaClient, draft: MessageDraft, status: int, name: str, word: str
) -> None:
    catena.reply("createMessage", Reply(status, example(name)))
    assert client.create_message(draft, is_sync=True).status == word
    assert catena.of("createMessage")[0].query == {"is_sync": ["true"]}


def test_the_hook_runs_once_before_anything_is_sent(
    catena: FakeCatena, client: CatenaClient, draft: MessageDraft
) -> None:
    sent_before_hook: list[int] = []
    client.create_message(draft, before_first_byte=lambda: sent_before_hook.append(len(catena.of("createMessage"))))
    assert sent_before_hook == [0]
    assert len(catena.of("createMessage")) == 1


def test_reads_share_a_connection_and_each_write_has_its_own(
    catena: FakeCatena, client: CatenaClient, draft: MessageDraft
) -> None:
    list(client.list_fleets())
    after_first_read = catena.connections
    list(client.list_fleets())
    assert catena.connections == after_first_read
    client.create_message(draft)
    client.create_message(draft)
    assert catena.connections == after_first_read + 2
    assert {request.headers["Connection"] for request in catena.of("createMessage")} == {"close"}


def page(items: list[Any], next_page: object = None) -> Reply:
    return Reply(200, {"items": items, "total": len(items), "next_page": next_page})


def fleets(*names: str) -> list[dict[str, Any]]:
    return [{**example("fleet_get_200"), "id": str(uuid4()), "name": name} for name in names]


def test_paging_follows_the_cursor_with_the_same_pinned_window_and_filters(
    catena: FakeCatena, client: CatenaClient
) -> None:
    item = example("messages_list_200")["items"][0]
    catena.reply("listMessages", page([item, item], "c2"), page([item], "c3"), page([]))
    found = list(client.list_messages(connection_id=ID, fleet_ids=FLEETS, **WINDOW))
    first, second, third = (request.query for request in catena.of("listMessages"))
    assert len(found) == 3
    assert first == {
        "from_datetime": ["2026-05-12T00:00:00Z"],
        "to_datetime": ["2026-05-13T00:00:00Z"],
        "connection_id": [str(ID)],
        "fleet_ids": [str(fleet) for fleet in FLEETS],
        "size": ["300"],
    }
    assert second == {**first, "cursor": ["c2"]}
    assert third == {**first, "cursor": ["c3"]}


def test_a_page_is_asked_for_only_when_its_items_are_wanted(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("listFleets", page(fleets("a"), "c2"))
    found = client.list_fleets()
    assert catena.of("listFleets") == []
    assert next(found).name == "a"
    assert len(catena.of("listFleets")) == 1


def test_a_repeated_cursor_ends_the_listing(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("listFleets", page(fleets("a"), "x"), page(fleets("b"), "y"), page(fleets("c"), "x"))
    assert [fleet.name for fleet in client.list_fleets()] == ["a", "b", "c"]
    assert len(catena.of("listFleets")) == 3


def test_an_endless_listing_is_an_error_and_not_a_short_list(catena: FakeCatena) -> None:
    catena.reply("listFleets", *(page(fleets("a"), f"c{number}") for number in range(9)))
    found = CatenaClient(catena.config(max_pages=3)).list_fleets()
    assert [next(found).name for _ in range(3)] == ["a", "a", "a"]
    with pytest.raises(BadPayload, match="more than 3 pages"):
        next(found)


def test_a_bad_item_is_reported_and_its_siblings_are_kept(catena: FakeCatena, client: CatenaClient) -> None:
    good, bad, last = fleets("good", "bad", "last")
    bad.pop("name")
    catena.reply("listFleets", page([good, bad, "no object", last]))
    reported: list[BadPayload] = []
    assert [fleet.name for fleet in client.list_fleets(on_bad=reported.append)] == ["good", "last"]
    assert [problem.path for problem in reported] == ["items[1].name", "items[2]"]


def test_a_bad_item_is_raised_when_nobody_takes_reports(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("listFleets", page([{"id": str(ID)}]))
    with pytest.raises(BadPayload, match=r"items\[0\]\.name is missing"):
        list(client.list_fleets())


@pytest.mark.parametrize(
    ("body", "path"), [({"total": 0}, "items"), ({"items": [], "next_page": 7}, "next_page"), ([], "")]
)
def test_a_page_of_another_shape_is_a_bad_payload(
    catena: FakeCatena, client: CatenaClient, body: object, path: str
) -> None:
    catena.reply("listFleets", Reply(200, body))
    with pytest.raises(BadPayload) as caught:
        list(client.list_fleets())
    assert caught.value.path == path


def test_many_fleets_are_asked_for_a_hundred_at_a_time(catena: FakeCatena, client: CatenaClient) -> None:
    list(client.list_connections(fleet_ids=[uuid4() for _ in range(205)]))
    assert [len(request.query["fleet_ids"]) for request in catena.of("listConnections")] == [100, 100, 5]


def test_times_go_out_in_utc(catena: FakeCatena, client: CatenaClient) -> None:
    east = timezone(timedelta(hours=2))
    start = datetime(2026, 5, 12, 1, 30, 0, 500, tzinfo=east)
    list(client.list_operations(from_datetime=start, to_datetime=start + timedelta(hours=1)))
    assert catena.of("listResourceOperations")[0].query["from_datetime"] == ["2026-05-11T23:30:00.000500Z"]


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (START, START + timedelta(days=45, seconds=1), "45 days"),
        (START.replace(tzinfo=None), START.replace(tzinfo=None), "zone"),
    ],
)
def test_an_impossible_window_is_refused_before_any_request(
    catena: FakeCatena, client: CatenaClient, start: datetime, end: datetime, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        client.list_messages(from_datetime=start, to_datetime=end)
    assert catena.seen == []


def test_a_wildcard_subscription_gives_one_secret_per_action(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("createWebhook", Reply(200, example("webhook_create_200_wildcard")))
    made = client.create_webhook("https://backhaul.test/hooks/catena/", "message.*")
    assert [hook.event_name for hook in made] == [hook["event_name"] for hook in example("webhook_create_200_wildcard")]
    assert all(hook.secret and hook.secret not in repr(hook) and "secret" not in hook.raw for hook in made)


def test_a_read_refused_for_its_token_is_repeated_once_with_a_new_one(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("requestToken", *(Reply(200, {**example("token_200"), "access_token": f"t{n}"}) for n in (1, 2)))
    catena.reply("getUser", Reply(401, example("error_401")))
    assert client.get_user(ID).id == UUID(example("user_get_200")["id"])
    assert [request.headers["Authorization"] for request in catena.of("getUser")] == ["Bearer t1", "Bearer t2"]


def test_a_read_refused_twice_is_unauthorized(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("getUser", Reply(401, example("error_401")), Reply(401, example("error_401")))
    with pytest.raises(Unauthorized):
        client.get_user(ID)
    assert len(catena.of("getUser")) == 2


def test_a_write_refused_for_its_token_drops_it_and_is_not_repeated(
    catena: FakeCatena, client: CatenaClient, draft: MessageDraft
) -> None:
    catena.reply("requestToken", *(Reply(200, {**example("token_200"), "access_token": f"t{n}"}) for n in (1, 2)))
    catena.reply("createMessage", Reply(401, example("error_401")))
    with pytest.raises(Unauthorized):
        client.create_message(draft)
    assert len(catena.of("createMessage")) == 1
    client.create_message(draft)
    assert [request.headers["Authorization"] for request in catena.of("createMessage")] == ["Bearer t1", "Bearer t2"]


def test_a_subscription_change_is_not_repeated_after_a_401(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("pauseWebhook", Reply(401, example("error_401")))
    with pytest.raises(Unauthorized):
        client.pause_webhook(ID)
    assert len(catena.of("pauseWebhook")) == 1


def test_something_not_found_is_refused_with_catenas_words(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("getResourceOperation", Reply(404, example("error_404"), {"X-Request-Id": "req-77"}))
    with pytest.raises(Refused) as caught:
        client.get_operation(ID, ID)
    assert (caught.value.http_status, caught.value.message) == (404, example("error_404")["message"])
    assert (caught.value.request_id, caught.value.code) == ("req-77", 404)
