"""What the API says when it does not give a page, in the shapes that have been seen of it."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, NamedTuple

import orjson

Scope = str
READ_AUDIT_LOGS: Scope = "api.audit_logs.read"
READ_MANAGEMENT: Scope = "api.management.read"
READ_USAGE: Scope = "api.usage.read"
SCOPES: tuple[Scope, ...] = (READ_AUDIT_LOGS, READ_MANAGEMENT, READ_USAGE)

HTML = b"<!DOCTYPE html>\n<html><head><title>%b</title></head><body><h1>%b</h1><hr>gateway</body></html>\n"


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


class Refusal(Exception):  # an answer on its way to the client, not an error of ours
    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def json_answer(status: int, tree: Any, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, orjson.dumps(tree), {"Content-Type": "application/json", **(headers or {})})


def error(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    tree = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return json_answer(status, tree, headers)


def bad_request(message: str, param: str | None = None, code: str | None = None) -> Answer:
    return error(400, message, param=param, code=code)


def wrong_key() -> Answer:
    return error(401, "Incorrect API key provided: sk-adm***. Look it up where you made it.", code="invalid_api_key")


def no_key() -> Answer:
    return error(401, "No API key provided. Send it as 'Authorization: Bearer KEY'.")


def access_refused() -> Answer:
    return error(401, "Your address may not use this API.", code="rejected_by_access_enforcement")


def missing_scope(scope: Scope) -> Answer:
    """A bare string, not an object: as it was seen live."""
    return json_answer(
        403, {"error": f"You have insufficient permissions for this operation. Missing scopes: {scope}."}
    )


def not_found(method: str, path: str) -> Answer:
    return error(404, f"Invalid URL ({method} {path})")


def too_many_requests(headers: dict[str, str] | None = None) -> Answer:
    return error(429, "Rate limit reached. Slow down.", kind="requests", code="rate_limit_exceeded", headers=headers)


def server_trouble(status: int) -> Answer:
    return error(status, "The server had an error while processing your request.", kind="server_error")


def html(status: int, title: str) -> Answer:
    return Answer(status, HTML % (title.encode(), title.encode()), {"Content-Type": "text/html; charset=utf-8"})
