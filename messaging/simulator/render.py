"""Records as Catena writes them: in answers and, where it differs, in webhook events. Contract, sections 5 to 9 and 13."""

from datetime import timedelta
from urllib.parse import urlsplit

from messaging.simulator.records import Attempt, Connection, Fleet, Message, Operation, Provider, Subscription, User
from messaging.simulator.wire import Json, digest, stable_id, write_moment
from messaging.simulator.world import World

_NO_DETAILS: Json = {
    "license_country": None,
    "license_region": None,
    "license_number": None,
    "license_expiration": None,
    "company_groups": None,
    "private_user_groups": None,
    "report_groups": None,
    "security_groups": None,
    "authority_name": None,
    "authority_address": None,
    "company_address": None,
    "notes": None,
    "hos_ruleset_code": None,
    "allow_yard_move": None,
    "allow_personal_conveyance": None,
    "allow_adverse_driving": None,
    "default_time_zone": None,
}


def fleet(record: Fleet) -> Json:
    return {
        "id": record.id,
        "name": record.name,
        "fleet_ref": record.fleet_ref,
        "description": None,
        "display_name": record.name,
        "legal_name": record.legal_name,
        "dba_name": None,
        "websites": None,
        "regulatory_id": record.regulatory_id,
        "regulatory_id_type": "DOT",
        "regulatory_id_date": "2014-05-19",
        "regulatory_id_status": "ACTIVE",
        "registered_email": None,
        "registered_phone": None,
        "registered_fax": None,
        "address": None,
        "city": record.city,
        "province": record.province,
        "postal_code": None,
        "country_code": "USA",
        "created_at": write_moment(record.created_at),
        "updated_at": write_moment(record.updated_at),
    }


def connection(world: World, record: Connection) -> Json:
    return {
        "id": record.id,
        "created_at": write_moment(record.created_at),
        "updated_at": write_moment(record.updated_at),
        "fleet_id": record.fleet_id,
        "fleet_ref": world.fleets[record.fleet_id].fleet_ref,
        "tsp_id": world.providers[record.slug].tsp_id,
        "source_name": record.slug,
        "credentials": dict(record.credentials),
        "status": world.word("connection", record.status, record.id),
        "description": record.description,
    }


def connection_event(world: World, record: Connection) -> Json:
    full = connection(world, record)
    return {name: full[name] for name in ("id", "source_name", "fleet_id", "tsp_id", "status")}


def freshness(world: World, record: Connection) -> list[Json]:
    """One entry per resource. Fetching stopped with the credentials, on the day when the connection went stale."""
    provider, owner = world.providers[record.slug], world.fleets[record.fleet_id]
    alive = record.status == "active"
    now = world.now()
    entries: list[Json] = []
    for schedule in record.schedules:
        offered = provider.integrations[schedule.resource] == "implemented"
        last = now - timedelta(seconds=world.pace.ingest_interval) if alive else record.updated_at
        following = now + timedelta(seconds=world.pace.ingest_interval)
        entries.append(
            {
                "resource": schedule.resource,
                "share_level": schedule.share_level if offered else None,
                "fleet_id": record.fleet_id,
                "fleet_ref": owner.fleet_ref,
                "connection_id": record.id,
                "connection_description": record.description,
                "schedule_id": schedule.id,
                "source_name": record.slug,
                "tsp_id": provider.tsp_id,
                "tsp_slug": provider.slug,
                "last_successful_execution_at": write_moment(last) if offered else None,
                "next_execution_at": write_moment(following) if offered and alive else None,
                "schedule_status": schedule.status if offered else "inactive",
            }
        )
    return entries


def provider(record: Provider) -> Json:
    states = list(record.integrations.values())
    return {
        "tsp_id": record.tsp_id,
        "slug": record.slug,
        "source_name": record.slug,
        "integrations": dict(record.integrations),
        "implemented_count": states.count("implemented"),
        "not_implemented_count": states.count("not_implemented"),
        "not_supported_count": states.count("not_supported"),
    }


def _record_head(world: World, record: User | Message, resource: str) -> Json:
    """What every telematics record carries, in answers and in events."""
    connection, owner = world.connections[record.connection_id], world.fleet_of(record.connection_id)
    occurred_at = record.started_at if isinstance(record, User) else record.occurred_at
    return {
        "id": record.id,
        "fleet_id": owner.id,
        "fleet_ref": owner.fleet_ref,
        "created_at": write_moment(record.created_at),
        "updated_at": write_moment(record.updated_at),
        "deleted_at": write_moment(record.deleted_at),
        "connection_id": record.connection_id,
        "tsp_id": world.providers[connection.slug].tsp_id,
        "tsp_slug": connection.slug,
        "source_name": connection.slug,
        "source_id": record.source_id,
        "occurred_at": write_moment(occurred_at),
        "execution_id": stable_id("execution", record.connection_id, resource, write_moment(record.created_at)),
        "schedule_id": connection.schedule(resource).id,
        "extras": None,
    }


def _as_answer(event: Json, raw: Json, with_source: bool) -> Json:
    answer = event | {"source_data_hash": digest(sorted(raw.items()))}
    return answer | {"source_data": raw} if with_source else answer


def user_event(world: World, record: User) -> Json:
    owner = world.fleet_of(record.connection_id)
    return _record_head(world, record, "user") | {
        "username": record.username,
        "started_at": write_moment(record.started_at),
        "ended_at": write_moment(record.deleted_at),
        "is_active": record.is_active,
        "status": record.status,
        "is_driver": record.is_driver,
        "user_designation": record.designation,
        "user_email": None,
        "first_name": record.first_name,
        "last_name": record.last_name,
        "phone_number": record.phone_number,
        "country_code": "USA",
        "employee_number": f"E-{record.source_id[4:]}",
        "company_name": owner.name,
        "carrier_number": owner.regulatory_id,
        "last_tsp_login": write_moment(record.last_login_at),
        **_NO_DETAILS,
    }


def user(world: World, record: User, with_source: bool = False) -> Json:
    raw: Json = {"id": record.source_id, "username": record.username, "status": record.status}
    return _as_answer(user_event(world, record), raw, with_source)


def user_removed_event(world: World, record: User) -> Json:
    head = _record_head(world, record, "user")
    return {name: value for name, value in head.items() if name not in ("fleet_ref", "tsp_id", "tsp_slug", "extras")}


def thread_of(record: Message) -> tuple[str, str]:
    """Catena's and the provider's id of the conversation: one per driver and connection, or one per group."""
    partners = record.driver_id if record.resource == "message" else ",".join(sorted(record.recipient_ids))
    thread_id = stable_id("thread", record.connection_id, partners)
    return thread_id, f"thr_{int(thread_id[:6], 16)}"


def message_event(world: World, record: Message) -> Json:
    """For a direct message without `thread_id` and `reply_to_message_id`, as events have it."""
    return _record_head(world, record, record.resource) | _message_body(world, record)


def _message_body(world: World, record: Message) -> Json:
    body: Json = {
        "sender_id": record.sender_id,
        "source_sender_id": world.users[record.sender_id].source_id,
        "sender_name": record.sender_name,
        "sent_by_driver": record.sent_by_driver,
        "message_text": record.text,
        "message_hash": digest(record.sender_id, record.text, write_moment(record.occurred_at)),
        "status": world.word("message", record.status, record.connection_id, record.text or ""),
        "delivered_at": write_moment(record.delivered_at),
    }
    return body | (_direct(world, record) if record.resource == "message" else _group(world, record))


def _direct(world: World, record: Message) -> Json:
    said = world.messages.get(record.reply_to_id or "")
    return {
        "recipient_id": record.recipient_ids[0],
        "source_recipient_id": world.users[record.recipient_ids[0]].source_id,
        "recipient_name": record.recipient_name,
        "read_at": write_moment(record.read_at),
        "source_thread_id": thread_of(record)[1],
        "source_reply_to_message_id": said.source_id if said else None,
    }


def _group(world: World, record: Message) -> Json:
    thread_id, source_thread_id = thread_of(record)
    return {
        "recipient_ids": list(record.recipient_ids),
        "source_recipient_ids": [world.users[identity].source_id for identity in record.recipient_ids],
        "thread_id": thread_id,
        "source_thread_id": source_thread_id,
        **group_ids(record),
    }


def group_ids(record: Message) -> Json:
    group_id = stable_id("group", record.connection_id, ",".join(sorted(record.recipient_ids)))
    return {"group_id": group_id, "source_group_id": f"grp_{int(group_id[:5], 16)}"}


def message(world: World, record: Message, with_source: bool = False) -> Json:
    raw: Json = {"id": record.source_id, "body": record.text, "priority": record.priority}
    answer = _as_answer(message_event(world, record), raw, with_source)
    if record.resource == "message":
        answer |= {"thread_id": thread_of(record)[0], "reply_to_message_id": record.reply_to_id}
    return answer


def attempt(world: World, owner: Operation, record: Attempt) -> Json:
    return {
        "id": record.id,
        "created_at": write_moment(record.created_at),
        "updated_at": write_moment(record.created_at),
        "resource_operation_id": owner.id,
        "status": world.word("attempt", record.status, owner.connection_id, owner.text),
        "error_type": record.error_type,
        "error_details": record.error_details,
        "response_status_code": record.response_status_code,
        "response_headers": dict(record.response_headers) if record.response_headers else None,
    }


def _operation_core(world: World, record: Operation) -> Json:
    return {
        "id": record.id,
        "created_at": write_moment(record.created_at),
        "updated_at": write_moment(record.updated_at),
        "partner_id": world.partner_id,
        "connection_id": record.connection_id,
        "resource": record.resource,
        "operation_type": "create",
        "resource_id": record.resource_id,
        "source_id": record.source_id,
        "status": record.status,
        "payload": dict(record.payload),
        "logs": [attempt(world, record, one) for one in record.attempts],
    }


def receipt(world: World, record: Operation) -> Json:
    """The answer to a write."""
    return _operation_core(world, record) | {"deleted_at": None}


def operation(world: World, record: Operation) -> Json:
    """As read back, and in events."""
    owner = world.fleet_of(record.connection_id)
    source_name = world.connections[record.connection_id].slug
    return _operation_core(world, record) | {"fleet_ref": owner.fleet_ref, "source_name": source_name}


def subscription(record: Subscription) -> Json:
    """With the address and the secret masked."""
    address = urlsplit(record.url)
    return {
        "id": record.id,
        "url": f"{address.scheme}://{address.netloc}/*****",
        "event_name": record.event_name,
        "filters": record.filters,
        "secret": "*****",
        "status": record.status,
        "created_at": write_moment(record.created_at),
        "updated_at": write_moment(record.updated_at),
    }


def subscription_created(world: World, record: Subscription) -> Json:
    """The one answer that shows the secret."""
    clear: Json = {"url": record.url, "secret": record.secret, "partner_id": world.partner_id, "deleted_at": None}
    return subscription(record) | clear


def subscription_event(record: Subscription) -> Json:
    clear = subscription(record) | {"url": record.url}
    return {name: clear[name] for name in ("id", "url", "event_name", "filters", "status")}
