"""The pages. What is in a message is hostile until shown otherwise.

A browser runs nothing of a message and fetches nothing for it, until a reader chooses a link. HTML
is cleaned of all that is not looks, and shown in a frame with no right but to open a link in a
window of its own, under a policy that lets in only what is in the message. All else is text, or
comes as a download of no particular type.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any, NamedTuple, TypeVar

import nh3
from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from blocksmtp.message import Attachment, IncomingMessage

from .reading import before, opened
from .storage import Storage, Summary

views = Blueprint("inbox", __name__)

# In characters: what is longer makes a browser slow, and is there as a download.
LONGEST_SHOWN = 200_000
LONGEST_HEADER = 5000
LONGEST_LINK = 2000
LONGEST_NAME = 200
MOST_PARTS = 200
# Elements in elements take the cleaner quadratic time: half a second for these.
MOST_TAGS = 20_000
LARGEST_PICTURE = 2_000_000
HEARTBEAT_SECONDS = 15.0

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self';"
    " img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_MESSAGE_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none';"
    " style-src 'unsafe-inline'; img-src data:; form-action 'none';"
    " base-uri 'none'; frame-ancestors 'self'"
)
# What a message may look like. What is left out makes a browser act: some elements make it open a
# connection to a server elsewhere under any policy, which tells that server who reads.
_TAGS = {*nh3.ALLOWED_TAGS, "center", "font", "style"}
_LOOK = {
    "align",
    "bgcolor",
    "border",
    "cellpadding",
    "cellspacing",
    "class",
    "color",
    "dir",
    "face",
}
_LOOK |= {"height", "id", "size", "style", "valign", "width"}
_ATTRIBUTES = {**nh3.ALLOWED_ATTRIBUTES, "*": _LOOK}
_CID = re.compile(r"cid:([^\s\"'<>)]+)", re.IGNORECASE)
_TAG = re.compile("<")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")

_Whole = TypeVar("_Whole", str, bytes, list[Any])


class Shown(NamedTuple):
    """A message as the page shows it."""

    text: str | None
    has_html: bool
    headers: list[tuple[str, str]]
    source: str
    attachments: list[Attachment]
    links: list[str]
    shortened: bool


def _storage() -> Storage:
    storage: Storage = current_app.extensions["inbox"]
    return storage


def _kept(number: int) -> tuple[Summary, bytes]:
    return _storage().get(number) or abort(404)


def _message(number: int) -> tuple[Summary, IncomingMessage]:
    summary, content = _kept(number)
    return summary, opened(content)


@views.before_request
def refuse_other_sites() -> None:
    """A page elsewhere must neither change anything here nor, by another name for this machine,
    read it."""
    name = request.host.rpartition(":")[0] if ":" in request.host else request.host
    if name not in ("127.0.0.1", "localhost", "[::1]"):
        abort(403)
    if request.method != "GET" and request.headers.get("Origin") != request.host_url.rstrip("/"):
        abort(403)


@views.after_request
def protect(response: AnyResponse) -> AnyResponse:
    """Headers that every answer has."""
    response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    # Without any the browser would not say where the button of this page was pressed, either.
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
    return response


@views.get("/")
def index() -> str:
    """The list, and nothing chosen."""
    return render_template("inbox.html", chosen=None, **_list())


@views.get("/messages/<int:number>")
def show(number: int) -> str:
    """The list, and a message beside it."""
    summary, message = _message(number)
    return render_template("inbox.html", chosen=summary, shown=_shown(summary, message), **_list())


@views.get("/list")
def only_list() -> str:
    """The list alone, for the page to put in place of its own."""
    return render_template("list.html", chosen=None, **_list())


@views.get("/messages/<int:number>/html")
def html(number: int) -> Response:
    """The HTML of a message, for a frame without rights."""
    _, message = _message(number)
    text = _with_pictures(_beginning(message.html or ""), message)
    harmless = nh3.clean(
        text,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        clean_content_tags={"script"},
        url_schemes={"http", "https", "mailto", "data"},
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    response = Response(f"<!doctype html><body>{harmless}", mimetype="text/html")
    response.headers["Content-Security-Policy"] = _MESSAGE_POLICY
    return response


@views.get("/messages/<int:number>/source")
def source(number: int) -> AnyResponse:
    """The message as it came, as a file."""
    _, content = _kept(number)
    return _download(content, f"message-{number}.eml")


@views.get("/messages/<int:number>/attachments/<int:position>")
def attachment(number: int, position: int) -> AnyResponse:
    """An attachment, as a file."""
    _, message = _message(number)
    if position >= len(message.attachments):
        abort(404)
    part = message.attachments[position]
    return _download(part.content, part.filename or f"part-{position + 1}")


@views.post("/clear")
def clear() -> AnyResponse:
    """Throw all messages away."""
    _storage().clear()
    return redirect(url_for("inbox.index"))


@views.get("/events")
def events() -> Response:
    """Tells the page when there is news."""
    storage = _storage()

    def news() -> Iterator[str]:
        version: int | None = storage.wait(-1, 0)
        yield "retry: 1000\n\n"
        while version is not None:
            seen = version
            version = storage.wait(seen, HEARTBEAT_SECONDS)
            yield "data: news\n\n" if version not in (seen, None) else ": still here\n\n"

    return Response(news(), mimetype="text/event-stream")


def _list() -> dict[str, object]:
    words = request.args.get("q", "")[:200]
    return {"messages": _storage().search(words), "words": words}


def _shown(summary: Summary, message: IncomingMessage) -> Shown:
    html = message.html or ""
    # A link that is cut would lead elsewhere.
    links = [link for link in message.links if len(link) <= LONGEST_LINK]
    shortened = (
        len(message.content) < summary.size
        or len(_beginning(html)) < len(html)
        or len(links) < len(message.links)
    )

    def cut(whole: _Whole, longest: int) -> _Whole:
        nonlocal shortened
        shortened = shortened or len(whole) > longest
        return whole[:longest]

    text = message.text
    return Shown(
        text=None if text is None else cut(text, LONGEST_SHOWN),
        has_html=message.html is not None,
        headers=[
            (cut(name, LONGEST_NAME), cut(_raw(value), LONGEST_HEADER))
            for name, value in cut(list(message.email.raw_items()), MOST_PARTS)
        ],
        source=cut(message.content, LONGEST_SHOWN).decode("utf-8", "replace"),
        attachments=[
            replace(
                part,
                filename=cut(part.filename or "", LONGEST_NAME),
                content_type=cut(part.content_type, LONGEST_NAME),
            )
            for part in cut(message.attachments, MOST_PARTS)
        ],
        links=cut(links, MOST_PARTS),
        shortened=shortened,  # the last, when everything has been cut
    )


def _beginning(html: str) -> str:
    return before(_TAG, html[:LONGEST_SHOWN], MOST_TAGS)


def _raw(header: str) -> str:
    """Octets that are UTF-8 as the text that they are, others as U+FFFD."""
    return header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _with_pictures(text: str, message: IncomingMessage) -> str:
    """`text` with the pictures that the message itself brings (RFC 2392)."""
    pictures = {
        part.content_id: part
        for part in message.attachments[:MOST_PARTS]
        if part.content_id and part.content_type in _PICTURES
    }
    room = LARGEST_PICTURE

    def picture(found: re.Match[str]) -> str:
        nonlocal room
        part = pictures.get(found[1])
        if part is None or len(part.content) > room:
            return "about:blank"
        room -= len(part.content)
        return f"data:{part.content_type};base64,{base64.b64encode(part.content).decode()}"

    return _CID.sub(picture, text)


def _download(content: bytes, name: str) -> AnyResponse:
    """A file of no type that a browser would show."""
    name = _CONTROLS.sub("_", name)[-LONGEST_NAME:]
    return send_file(
        BytesIO(content), "application/octet-stream", as_attachment=True, download_name=name
    )
