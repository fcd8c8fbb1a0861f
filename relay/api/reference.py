"""The page /api/v1/docs: the schema, rendered here, so that it needs no script and no CDN.

Shapes  Section (tag) 1-n Call; Call 1-n Value (parameter, field). All of it is read from OpenAPI.
Source  OpenAPI 3.1; JSON Schema 2020-12 for the types.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.text import slugify
from ninja import NinjaAPI
from ninja.openapi.docs import DocsBase

from relay.api.problems import KINDS

Json = Mapping[str, Any]
SAMPLES = {"integer": 1, "boolean": False, "array": [], "object": {}}


@dataclass(frozen=True, slots=True)
class Value:
    name: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Call:
    id: str
    method: str
    path: str
    summary: str
    description: str
    scope: str
    parameters: list[Value]
    body: list[Value]
    answer_status: str
    answer: list[Value]
    example: str


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    id: str
    calls: list[Call]


class Reference(DocsBase):
    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        sections = sections_of(json.loads(json.dumps(api.get_openapi_schema(), default=str)))
        context = {"sections": sections, "kinds": KINDS, "web_url": settings.GATEPOST_WEB_URL, "version": api.version}
        return render(request, "api/docs.html", context)


def sections_of(schema: Json) -> list[Section]:
    """Calls by tag, in the order of the routers."""
    sections: dict[str, Section] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            name = operation["tags"][0]
            section = sections.setdefault(name, Section(name, slugify(name), []))
            section.calls.append(_call(schema, path, method, operation))
    return list(sections.values())


def _call(schema: Json, path: str, method: str, operation: Json) -> Call:
    status, answer = next(((code, each) for code, each in operation["responses"].items() if str(code).startswith("2")))
    body = _body_schema(schema, operation.get("requestBody", {}))
    return Call(
        id=slugify(f"{method}-{path}"),
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        scope=operation.get("x-scope", ""),
        parameters=[_parameter(schema, each) for each in operation["parameters"]],
        body=list(_fields(schema, body)),
        answer_status=str(status),
        answer=list(_fields(schema, _body_schema(schema, answer))),
        example=_example(schema, path, method, body),
    )


def _body_schema(schema: Json, holder: Json) -> Json:
    return _resolved(schema, holder.get("content", {}).get("application/json", {}).get("schema", {}))


def _resolved(schema: Json, part: Json) -> Json:
    while "$ref" in part:
        part = schema["components"]["schemas"][part["$ref"].rsplit("/", 1)[-1]]
    return part


def _parameter(schema: Json, parameter: Json) -> Value:
    part = parameter["schema"]
    description = parameter.get("description") or part.get("description", "")
    return Value(parameter["name"], _type(schema, part), parameter.get("required", False), description)


def _fields(schema: Json, part: Json, prefix: str = "") -> Iterator[Value]:
    """The members of an object; those of objects in lists too, as items[].id."""
    required = part.get("required", [])
    for name, member in part.get("properties", {}).items():
        yield Value(f"{prefix}{name}", _type(schema, member), name in required, member.get("description", ""))
        if member.get("type") == "array":
            yield from _fields(schema, _resolved(schema, member.get("items", {})), f"{prefix}{name}[].")


def _type(schema: Json, part: Json) -> str:
    part = _resolved(schema, part)
    if "anyOf" in part:
        return " or ".join(_type(schema, each) for each in part["anyOf"])
    if "enum" in part:
        return " | ".join(str(each) for each in part["enum"] if each != "")
    if part.get("type") == "array":
        return f"list of {_type(schema, part.get('items', {}))}"
    return str(part.get("format") or part.get("type", "value")).replace("-", " ")


def _example(schema: Json, path: str, method: str, body: Json) -> str:
    """For a shell; the key comes from the environment, never from the line."""
    lines = [f'curl -H "Authorization: Bearer $GATEPOST_API_TOKEN" {settings.GATEPOST_WEB_URL}{path}']
    if method != "get":
        lines[0] = lines[0].replace("curl ", f"curl -X {method.upper()} ", 1)
    if properties := body.get("properties"):
        wanted = body.get("required") or list(properties)[:1]
        sample = {name: _sample(schema, properties[name]) for name in wanted}
        lines.append(f"  -H 'Content-Type: application/json' -d '{json.dumps(sample)}'")
    return " \\\n".join(lines)


def _sample(schema: Json, part: Json) -> Any:
    part = _resolved(schema, part)
    if "anyOf" in part:
        return _sample(schema, part["anyOf"][0])
    return next((each for each in part.get("enum", []) if each), SAMPLES.get(part.get("type", ""), "..."))
