"""The reading endpoints: fleets, connections, providers, users, messages, operations. Contract, sections 5, 6, 8 and 9.

Filters of different names are combined with AND, values of one name with OR (inferred in the contract). Operations are listed
in the order of their creation, and their window is on `created_at`. `sort_by` takes any field of the record that holds text, a
number or a moment; another name is a 422.
"""

from collections.abc import Callable, Iterable

from messaging.simulator import parameters, render
from messaging.simulator.exchange import Answer, Refusal, Request, invalid
from messaging.simulator.parameters import SortKey
from messaging.simulator.records import Connection, Message, Operation, User
from messaging.simulator.wire import Json, write_moment
from messaging.simulator.world import World


def list_fleets(world: World, request: Request, ids: dict[str, str]) -> Answer:
    refs = parameters.texts(request, "fleet_refs")
    chosen = [fleet for fleet in world.fleets.values() if not refs or fleet.fleet_ref in refs]
    return Answer(200, parameters.page(request, "fleets", chosen, lambda one: (one.name, one.id), render.fleet, True))


def get_fleet(world: World, request: Request, ids: dict[str, str]) -> Answer:
    return Answer(200, render.fleet(found(world.fleets, ids["fleet_id"])))


def list_connections(world: World, request: Request, ids: dict[str, str]) -> Answer:
    tsp_id = parameters.identity(request, "tsp_id")
    visible = _connections_of_fleets(world, request)
    chosen = [one for one in visible if tsp_id in (None, world.providers[one.slug].tsp_id)]
    return Answer(
        200,
        parameters.page(request, "connections", chosen, _by_creation, lambda one: render.connection(world, one), False),
    )


def get_connection(world: World, request: Request, ids: dict[str, str]) -> Answer:
    return Answer(200, render.connection(world, found(world.connections, ids["connection_id"])))


def list_freshness(world: World, request: Request, ids: dict[str, str]) -> Answer:
    entries = [render.freshness(world, one) for one in _connections_of_fleets(world, request)]
    return Answer(200, [entry for group in entries for entry in group])


def list_providers(world: World, request: Request, ids: dict[str, str]) -> Answer:
    providers = list(world.providers.values())
    return Answer(
        200, parameters.page(request, "tsps", providers, lambda one: (one.slug, one.tsp_id), render.provider, False)
    )


def get_provider(world: World, request: Request, ids: dict[str, str]) -> Answer:
    by_id = {provider.tsp_id: provider for provider in world.providers.values()}
    return Answer(200, render.provider(found(by_id, ids["tsp_id"])))


def list_users(world: World, request: Request, ids: dict[str, str]) -> Answer:
    is_driver = parameters.flag(request, "is_driver")
    user_ids, source_ids = parameters.identities(request, "user_ids"), parameters.texts(request, "source_ids")
    with_source = bool(parameters.flag(request, "include_source_data"))
    chosen = [
        user
        for user in _of_connections(world, request, world.users.values())
        if is_driver in (None, user.is_driver)
        and (not user_ids or user.id in user_ids)
        and (not source_ids or user.source_id in source_ids)
    ]
    return Answer(200, _sorted_page(request, "users", chosen, lambda one: render.user(world, one, with_source)))


def get_user(world: World, request: Request, ids: dict[str, str]) -> Answer:
    with_source = bool(parameters.flag(request, "include_source_data"))
    return Answer(200, render.user(world, found(world.users, ids["user_id"]), with_source))


def list_messages(world: World, request: Request, ids: dict[str, str]) -> Answer:
    recipient_ids = parameters.identities(request, "recipient_ids")
    source_recipient_ids = parameters.texts(request, "source_recipient_ids")

    def is_wanted(message: Message) -> bool:
        recipient = world.users[message.recipient_ids[0]]
        return (not recipient_ids or recipient.id in recipient_ids) and (
            not source_recipient_ids or recipient.source_id in source_recipient_ids
        )

    return _list_messages(world, request, "message", is_wanted)


def list_group_messages(world: World, request: Request, ids: dict[str, str]) -> Answer:
    group_ids = parameters.identities(request, "group_ids")
    source_group_ids = parameters.texts(request, "source_group_ids")

    def is_wanted(message: Message) -> bool:
        group = render.group_ids(message)
        return (not group_ids or group["group_id"] in group_ids) and (
            not source_group_ids or group["source_group_id"] in source_group_ids
        )

    return _list_messages(world, request, "group_message", is_wanted)


def _list_messages(world: World, request: Request, resource: str, is_wanted: Callable[[Message], bool]) -> Answer:
    start, end = parameters.window(request, world.now())
    sender_ids = parameters.identities(request, "sender_ids")
    source_sender_ids = parameters.texts(request, "source_sender_ids")
    with_source = bool(parameters.flag(request, "include_source_data"))
    inside = [one for one in world.messages.values() if one.resource == resource and start <= one.occurred_at < end]
    chosen = [
        message
        for message in _of_connections(world, request, inside)
        if (not sender_ids or message.sender_id in sender_ids)
        and (not source_sender_ids or world.users[message.sender_id].source_id in source_sender_ids)
        and is_wanted(message)
    ]
    return Answer(200, _sorted_page(request, resource, chosen, lambda one: render.message(world, one, with_source)))


def list_operations(world: World, request: Request, ids: dict[str, str]) -> Answer:
    start, end = parameters.window(request, world.now())
    resource, source_id = parameters.text(request, "resource"), parameters.text(request, "source_id")
    source_name = parameters.text(request, "source_name")
    kind = parameters.choice(request, "operation", ("create", "update"))
    if source_id and not resource:
        raise invalid("query.source_id", source_id, "Needs resource as well", "missing")
    now = world.now()
    inside = [one for one in world.operations.values() if start <= one.created_at < end]
    chosen = [
        operation
        for operation in _of_connections(world, request, inside)
        if operation.listed_at is not None
        and operation.listed_at <= now
        and kind in (None, "create")
        and resource in (None, operation.resource)
        and source_id in (None, operation.source_id)
        and source_name in (None, world.connections[operation.connection_id].slug)
    ]
    return Answer(
        200,
        parameters.page(request, "operations", chosen, _by_creation, lambda one: render.operation(world, one), False),
    )


def get_operation(world: World, request: Request, ids: dict[str, str]) -> Answer:
    operation = found(world.operations, ids["resource_operation_id"])
    if operation.connection_id != ids["connection_id"]:
        raise Refusal(404)
    return Answer(200, render.operation(world, operation))


def found[Item](shelf: dict[str, Item], identity: str) -> Item:
    """Raises Refusal with 404 when there is no such thing."""
    if identity not in shelf:
        raise Refusal(404)
    return shelf[identity]


def _connections_of_fleets(world: World, request: Request) -> list[Connection]:
    fleet_ids, refs = parameters.identities(request, "fleet_ids"), parameters.texts(request, "fleet_refs")
    return [
        connection
        for connection in world.connections.values()
        if (not fleet_ids or connection.fleet_id in fleet_ids)
        and (not refs or world.fleets[connection.fleet_id].fleet_ref in refs)
    ]


def _of_connections[Item: (User, Message, Operation)](
    world: World, request: Request, items: Iterable[Item]
) -> list[Item]:
    visible = {connection.id for connection in _connections_of_fleets(world, request)}
    if connection_id := parameters.identity(request, "connection_id"):
        visible &= {connection_id}
    return [item for item in items if item.connection_id in visible]


def _by_creation(record: Connection | Operation) -> SortKey:
    return str(write_moment(record.created_at)), record.id


def _sorted_page[Item: (User, Message)](
    request: Request, name: str, items: list[Item], write: Callable[[Item], Json]
) -> Json:
    sort_by = parameters.text(request, "sort_by") or "occurred_at"
    descending = parameters.choice(request, "sort_order", ("asc", "desc")) == "desc"
    if not sort_by.isidentifier():
        raise invalid("query.sort_by", sort_by, "No such field")
    if sort_by in ("occurred_at", "started_at", "created_at", "updated_at", "id"):
        return parameters.page(request, f"{name}:{sort_by}", items, _native_key(sort_by), write, True, descending)
    written = [(item, write(item)) for item in items]
    if any(not isinstance(row.get(sort_by, []), str | int | float | None) for _, row in written):
        raise invalid("query.sort_by", sort_by, "No such field")
    return parameters.page(
        request, f"{name}:{sort_by}", written, lambda pair: (_sortable(pair[1][sort_by]), pair[0].id),
        lambda pair: pair[1], True, descending,
    )  # fmt: skip


def _native_key(sort_by: str) -> Callable[[User | Message], SortKey]:
    """Without writing every record down first, which is most of the work of a long list."""
    if sort_by == "id":
        return lambda record: (record.id, record.id)

    def key(record: User | Message) -> SortKey:
        name = "started_at" if isinstance(record, User) and sort_by == "occurred_at" else sort_by
        return str(write_moment(getattr(record, name))), record.id

    return key


def _sortable(value: object) -> str:
    return f"{value:020.6f}" if isinstance(value, int | float) else str(value or "")
