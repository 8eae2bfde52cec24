"""Who is in the seeded world: providers, fleets, connections, drivers and office people.

Everything is a function of the seed and of the moment the world began, ids included, so that a restart meets the same
people. Contract, sections 5 and 6.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from messaging.simulator.records import Connection, Fleet, Provider, Schedule, User
from messaging.simulator.wire import stable_id

DRIVERS_PER_CONNECTION = 10
RESOURCES = ("message", "group_message", "user", "vehicle", "hos_event")

_FLEETS = (
    ("Ridgeline Freight", "Ridgeline Freight Lines LLC", "RIDGE-0107", "Denver", "Colorado", "2214587"),
    ("Bluewater Logistics", "Bluewater Logistics Inc", "BLUE-0042", "Tacoma", "Washington", "1873320"),
    ("Prairie Line Transport", "Prairie Line Transport Co", "PRAIR-0311", "Omaha", "Nebraska", "3056914"),
)


@dataclass(frozen=True)
class _Plan:
    fleet: int
    slug: str
    description: str | None
    status: str
    share_level: str
    dispatchers: tuple[str, ...]


_CONNECTIONS = (
    _Plan(0, "samsara", "Linehaul, western region", "active", "read_write", ("Dana Whitfield", "Marcus Oyelaran")),
    _Plan(0, "motive", "Regional day cabs", "active", "read_write", ("Priscilla Tan",)),
    _Plan(1, "geotab", "Drayage, Port of Tacoma", "active", "read_write", ("Owen Castellanos", "Birgit Halvorsen")),
    _Plan(1, "samsara", "Former Cascade Haulers account", "stale", "read_write", ("Renee Dubois",)),
    _Plan(2, "platform_science", "Reefer fleet", "active", "read_write", ("Tomasz Wilk", "Aaliyah Brooks")),
    _Plan(2, "motive", "Owner-operators", "active", "read", ("Gloria Esquivel",)),
)

_DRIVERS = (
    "Luis Ortega", "Tanya Kowalczyk", "DeShawn Mitchell", "Gurpreet Singh", "Maria Fernandez", "Bill Hendricks",
    "Amara Okafor", "Hank Sorensen", "Yusuf Demir", "Carol Ann Pruitt", "Jamal Washington", "Svetlana Petrova",
    "Miguel Ángel Reyes", "Chris Nakamura", "Earl Thibodeaux", "Fatima Zahra Idrissi", "Rick Dombrowski", "Lena Vogel",
    "Terrence Boyd", "Nguyen Van Minh", "Josie Blackhawk", "Harjit Kaur Gill", "Pete Lindqvist", "Rosa Delgado",
    "Andre Baptiste", "Kelly O'Rourke", "Samuel Tesfaye", "Donna Kirkpatrick", "Ivan Horvat", "Wendell Price",
    "Xiomara Cruz", "Bogdan Ionescu", "Tyrell Jackson", "Mei-Ling Chou", "Gary Stubblefield", "Abdi Warsame",
    "Noelle Fontenot", "Rafael Monteiro", "Jolene Yazzie", "Viktor Shevchenko", "Latoya Simmons", "Øyvind Bakke",
    "Cesar Villanueva", "Brenda McAllister", "Kwame Mensah", "Zdeněk Novák", "Shirley Begay", "Otis Graham",
    "Paolo Ricci", "Huda Al-Amin", "Dale Schumacher", "Ines Carvalho", "Trevor Ngata", "Melissa Running Bear",
    "Oleksandr Bondar", "Keisha Franklin", "Walt Zimmerman", "Esperanza Luna", "Dmitri Volkov", "Luis Ortega",
)  # fmt: skip
"""The last one is the first one again: the same person at two providers is two users (contract, section 6)."""

_ONLY_USERNAME = {13: "nmitch_t417", 29: "unit2290", 44: "km-truck-88"}
"""Drivers whom the provider knows by user name alone."""
_INACTIVE, _DELETED = 35, 57


def build_providers() -> dict[str, Provider]:
    """By slug. Geotab reports no receipts and has no group messages; Platform Science reports delivery but not reading."""
    everything = dict.fromkeys(RESOURCES, "implemented") | {"ifta_summary": "not_supported"}
    no_groups = everything | {"group_message": "not_implemented"}
    providers = (
        Provider(stable_id("tsp", "samsara"), "samsara", "sam", True, True, 2500, everything),
        Provider(stable_id("tsp", "motive"), "motive", "mot", True, True, 1000, everything),
        Provider(stable_id("tsp", "geotab"), "geotab", "geo", False, False, 1000, no_groups),
        Provider(stable_id("tsp", "platform_science"), "platform_science", "ps", True, False, 500, everything),
    )
    return {provider.slug: provider for provider in providers}


def build_fleets(seed: int, began: datetime) -> list[Fleet]:
    return [
        Fleet(
            stable_id(seed, "fleet", index), name, legal, ref, city, province, dot,
            created_at=began - timedelta(days=240 - 30 * index), updated_at=began - timedelta(days=20),
        )
        for index, (name, legal, ref, city, province, dot) in enumerate(_FLEETS)
    ]  # fmt: skip


def build_connections(seed: int, began: datetime) -> list[Connection]:
    return [_connection(seed, began, index, plan) for index, plan in enumerate(_CONNECTIONS)]


def _connection(seed: int, began: datetime, index: int, plan: _Plan) -> Connection:
    schedules = [
        Schedule(
            id=stable_id(seed, "schedule", index, resource),
            resource=resource,
            share_level=plan.share_level if resource.endswith("message") else "read",
            status="stale" if plan.status == "stale" else "active",
        )
        for resource in RESOURCES
    ]
    return Connection(
        id=stable_id(seed, "connection", index),
        fleet_id=stable_id(seed, "fleet", plan.fleet),
        slug=plan.slug,
        status=plan.status,
        description=plan.description,
        credentials={"account": f"account-{index + 1}", "access_token": "*****"},
        schedules=schedules,
        created_at=began - timedelta(days=200 - 20 * index),
        updated_at=began - timedelta(days=2 if plan.status == "stale" else 40),
    )


def build_users(seed: int, began: datetime) -> list[User]:
    users = []
    for index, plan in enumerate(_CONNECTIONS):
        users += [_dispatcher(seed, began, index, name) for name in plan.dispatchers]
        first = index * DRIVERS_PER_CONNECTION
        users += [_driver(seed, began, index, first + offset) for offset in range(DRIVERS_PER_CONNECTION)]
    return users


def _dispatcher(seed: int, began: datetime, connection: int, name: str) -> User:
    first, last = name.split(" ", 1)
    return User(
        id=stable_id(seed, "office", connection, name),
        connection_id=stable_id(seed, "connection", connection),
        source_id=f"usr_{20400 + 17 * connection + len(name)}",
        is_driver=False,
        username=(first[0] + last).lower().replace(" ", ""),
        first_name=first,
        last_name=last,
        phone_number=None,
        designation="DISPATCHER",
        status="ACTIVE",
        started_at=began - timedelta(days=600),
        created_at=began - timedelta(days=90),
        updated_at=began - timedelta(days=30),
        last_login_at=began - timedelta(hours=2),
    )


def _driver(seed: int, began: datetime, connection: int, number: int) -> User:
    rng = Random(f"{seed}/driver/{number}")  # noqa: S311 - a repeatable world, no secret
    first, last = _DRIVERS[number].rsplit(" ", 1)
    known = number not in _ONLY_USERNAME
    return User(
        id=stable_id(seed, "driver", number),
        connection_id=stable_id(seed, "connection", connection),
        source_id=f"drv_{88100 + 7 * number}",
        is_driver=True,
        username=(first[0] + last).lower().replace("'", "") if known else _ONLY_USERNAME[number],
        first_name=first if known else None,
        last_name=last if known else None,
        phone_number=f"+1555{rng.randrange(10**7):07d}",
        designation="DRIVER",
        status="INACTIVE" if number == _INACTIVE else "ACTIVE",
        started_at=began - timedelta(days=rng.randrange(60, 2000)),
        created_at=began - timedelta(days=90),
        updated_at=began - timedelta(days=rng.randrange(1, 50)),
        last_login_at=began - timedelta(minutes=rng.randrange(20, 700)),
        deleted_at=began - timedelta(days=6) if number == _DELETED else None,
    )
