"""Checks HTTP exchanges against `openapi.yaml`; shared by the client's and the simulator's tests, knows neither."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml
from openapi_schema_validator import OAS31Validator, oas31_format_checker

HERE = Path(__file__).parent
EXAMPLES = HERE / "examples"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
METHODS = ("get", "post", "put", "patch", "delete")


class ContractViolation(AssertionError):  # a verdict on an exchange, not a fault of the validator
    """An exchange that `openapi.yaml` does not describe; the text names the operation and each problem."""


@dataclass(frozen=True)
class Operation:
    """One method of one path, with references in its parameters and answers resolved."""

    method: str
    template: str
    prefixes: tuple[str, ...]
    pattern: re.Pattern[str]
    parameters: tuple[dict[str, Any], ...]
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.spec["operationId"])

    def match(self, path: str) -> dict[str, str] | None:
        """The path's parameters, or None; a server's path prefix (the token realm) may be present or absent."""
        for prefix in self.prefixes:
            if found := self.pattern.fullmatch(path.removeprefix(prefix)):
                return {key: unquote(value) for key, value in found.groupdict().items()}
        return None


class Contract:
    """Strict reader of the contract: whatever is not declared is a `ContractViolation`.

    Strict on purpose where our parsers are tolerant: it judges what we and the simulator send.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._operations = sorted(self._read_operations(), key=lambda found: found.template.count("{"))

    @classmethod
    def load(cls) -> Self:
        """The contract in this folder; read from disk once per process."""
        return cls(_document())

    def operation(self, method: str, path: str) -> Operation:
        """The operation that serves this request; fixed paths win over templates, as in any router."""
        for candidate in self._operations:
            if candidate.method == method.lower() and candidate.match(path) is not None:
                return candidate
        raise ContractViolation(f"{method} {path}: no such operation in the contract")

    def check_request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> str:
        """Raises `ContractViolation` unless path, query, authorization and body are as declared.

        Answers the operationId. `url` may be absolute or start at the path.
        """
        parts = urlsplit(url)
        operation = self.operation(method, parts.path)
        problems = [*self._path_problems(operation, parts.path), *self._query_problems(operation, parts.query)]
        problems += self._authorization_problems(operation, _lowered(headers))
        problems += self._request_body_problems(operation, _lowered(headers), body or b"")
        self._raise(operation.name, problems)
        return operation.name

    def check_response(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes | None
    ) -> str:
        """Raises `ContractViolation` unless the status is declared for this operation and the body fits its schema.

        Answers the operationId. `path` may carry a host or a query; both are ignored.
        """
        operation = self.operation(method, urlsplit(path).path)
        declared = operation.spec["responses"].get(str(status))
        if declared is None:
            raise ContractViolation(f"{operation.name}: status {status} is not declared")
        content = self._resolve(declared).get("content")
        problems = self._content_problems(content, _lowered(headers), body or b"")
        self._raise(f"{operation.name} {status}", problems)
        return operation.name

    def check_event(self, event_name: str, headers: Mapping[str, str], body: bytes) -> None:
        """The same for a webhook delivery; `body` is the uncompressed JSON."""
        spec = self._document["webhooks"].get(event_name)
        if spec is None:
            raise ContractViolation(f"event {event_name} is not in the contract")
        lowered = _lowered(headers)
        problems: list[str] = []
        for parameter in map(self._resolve, spec["post"]["parameters"]):
            value = lowered.get(parameter["name"].lower())
            problems += self._parameter_problems(parameter, [] if value is None else [value])
        problems += self._content_problems(spec["post"]["requestBody"]["content"], lowered, body)
        self._raise(event_name, problems)

    def schema_problems(self, schema: Mapping[str, Any], value: object) -> list[str]:
        """What is wrong with `value` under a schema of this document; empty when it fits."""
        rooted = {**schema, "components": self._document["components"]}
        validator = OAS31Validator(rooted, format_checker=oas31_format_checker)
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def component(self, name: str) -> dict[str, Any]:
        """A reference to the schema of that name, for `schema_problems`."""
        return {"$ref": f"#/components/schemas/{name}"}

    def _read_operations(self) -> Iterable[Operation]:
        for template, item in self._document["paths"].items():
            servers = item.get("servers", self._document["servers"])
            prefixes = ("", *(urlsplit(server["url"]).path for server in servers))
            pattern = re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template)))
            for method in METHODS:
                if method in item:
                    declared = [*item.get("parameters", ()), *item[method].get("parameters", ())]
                    parameters = tuple(map(self._resolve, declared))
                    yield Operation(method, template, prefixes, pattern, parameters, item[method])

    def _resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target: Any = self._document
            for key in node["$ref"].removeprefix("#/").split("/"):
                target = target[key]
            node = target
        return node

    def _path_problems(self, operation: Operation, path: str) -> list[str]:
        found = operation.match(path) or {}
        declared = {parameter["name"]: parameter for parameter in operation.parameters if parameter["in"] == "path"}
        return [p for name, value in found.items() for p in self._parameter_problems(declared[name], [value])]

    def _query_problems(self, operation: Operation, query: str) -> list[str]:
        given: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
            given.setdefault(name, []).append(value)
        declared = {parameter["name"]: parameter for parameter in operation.parameters if parameter["in"] == "query"}
        problems = [f"query parameter {name} is not declared" for name in given if name not in declared]
        for name, parameter in declared.items():
            problems += self._parameter_problems(parameter, given.get(name, []))
        return problems

    def _parameter_problems(self, parameter: dict[str, Any], values: list[str]) -> list[str]:
        name, schema = parameter["name"], self._resolve(parameter["schema"])
        if not values:
            return [f"{name} is required"] if parameter.get("required") else []
        if "array" in _types(schema):
            found = self.schema_problems(schema, [_typed(schema.get("items", {}), value) for value in values])
        elif len(values) > 1:
            found = ["given more than once"]
        else:
            found = self.schema_problems(schema, _typed(schema, values[0]))
        return [f"{name}: {problem}" for problem in found]

    def _authorization_problems(self, operation: Operation, headers: Mapping[str, str]) -> list[str]:
        given = headers.get("authorization")
        if operation.spec.get("security", self._document["security"]):
            return [] if given and re.fullmatch(r"Bearer \S+", given) else ["a Bearer token is required"]
        return ["no Authorization header belongs here"] if given else []

    def _request_body_problems(self, operation: Operation, headers: Mapping[str, str], body: bytes) -> list[str]:
        declared = operation.spec.get("requestBody")
        if declared is None:
            return ["a body was sent where none is declared"] if body else []
        return self._content_problems(declared["content"], headers, body)

    def _content_problems(self, content: dict[str, Any] | None, headers: Mapping[str, str], body: bytes) -> list[str]:
        if content is None:
            return ["a body was sent where none is declared"] if body else []
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in content:
            return [f"content type {media_type!r} is not one of {sorted(content)}"]
        try:
            value = _decoded(media_type, body)
        except ValueError as error:
            return [f"the body is not {media_type}: {error}"]
        return self.schema_problems(content[media_type]["schema"], value)

    def _raise(self, where: str, problems: list[str]) -> None:
        if problems:
            raise ContractViolation(f"{where}: " + "; ".join(problems))


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load((HERE / "openapi.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    return document


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _types(schema: Mapping[str, Any]) -> list[str]:
    declared = schema.get("type", [])
    return [declared] if isinstance(declared, str) else list(declared)


def _typed(schema: Mapping[str, Any], text: str) -> object:
    """A parameter's text as its schema means it; text that does not convert stays text, so the schema refuses it."""
    types = _types(schema)
    if "boolean" in types and text in ("true", "false"):
        return text == "true"
    if "integer" in types and re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    return text


def _decoded(media_type: str, body: bytes) -> object:
    if media_type == FORM:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
        if len(pairs) != len(dict(pairs)):
            raise ValueError("a form field is repeated")
        return dict(pairs)
    return json.loads(body.decode("utf-8"))
