"""The TLS contexts of a server: made when they are needed, replaced as a whole or not at all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from blocksmtp.options import Options
from blocksmtp.tls_state import TLSState
from blocksmtp.wire import tls_context
from blocksmtp.wire.tls_context import SecureContexts
from tests.certificates import Authority
from tests.client import TIMEOUT


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What contexts were built of."""
    seen: list[tuple[Any, ...]] = []
    build = SecureContexts.build

    def noting(*arguments: Any) -> SecureContexts:
        seen.append(arguments)
        return build(*arguments)

    monkeypatch.setattr(tls_context.SecureContexts, "build", noting)
    return seen


def test_nothing_is_made_before_it_is_needed(built: list[tuple[Any, ...]]) -> None:
    state = TLSState(Options(name="mx.example"))
    assert built == []
    first = state.contexts()
    assert first.self_made
    assert state.contexts() is first
    assert [arguments[2] for arguments in built] == ["mx.example"]


def test_it_is_made_once_for_all_threads(built: list[tuple[Any, ...]]) -> None:
    state = TLSState(Options())
    together = threading.Barrier(4)
    seen: list[SecureContexts] = []

    def ask() -> None:
        together.wait()
        seen.append(state.contexts())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, seen))) == len(built) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"cert": b"no certificate"},
        {"ciphers": "NO-SUCH-CIPHER"},
        {"passphrase": "for nothing", "cert": b"none"},
        {"sni_options": {"a.example": {"cert": b"none"}}},
    ],
)
def test_what_is_wrong_shows_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(reversed(given))):
        TLSState(Options(**given))


def test_what_is_not_given_stays(built: list[tuple[Any, ...]]) -> None:
    leaf = Authority().issue("mx.example")
    state = TLSState(Options(cert=leaf.cert, key=leaf.key, min_version="TLSv1.3"))
    state.update({"requestCert": True})
    state.update({"sniOptions": {"a.example": {"request_cert": False}}})
    state.update({"honor_cipher_order": False})
    options, sni_options = built[-1][:2]
    assert (options.cert, options.key) == (leaf.cert, leaf.key)
    assert options.min_version == "TLSv1.3"
    assert options.request_cert is True
    assert options.honor_cipher_order is False
    assert set(sni_options) == {"a.example"}


def test_none_goes_back_to_the_default(built: list[tuple[Any, ...]]) -> None:
    leaf = Authority().issue("mx.example")
    state = TLSState(Options(cert=leaf.cert, key=leaf.key, max_version="TLSv1.2"))
    state.update({"max_version": None, "cert": None, "key": None})
    options = built[-1][0]
    assert (options.cert, options.key, options.max_version) == (None, None, None)
    assert state.contexts().self_made


def test_a_new_certificate_does_not_keep_the_old_key(built: list[tuple[Any, ...]]) -> None:
    authority = Authority()
    old, new = authority.issue("mx.example"), authority.issue("mx.example")
    state = TLSState(Options(cert=old.cert, key=old.encrypted_key(b"x"), passphrase=b"x"))
    state.update({"cert": new.combined})
    assert built[-1][0].key is None
    # The passphrase may stay: it is for nothing, but does no harm.
    state.update({"cert": new.cert, "key": new.key})
    assert built[-1][0].key == new.key


def test_what_is_wrong_changes_nothing(built: list[tuple[Any, ...]]) -> None:
    leaf = Authority().issue("mx.example")
    state = TLSState(Options(cert=leaf.cert, key=leaf.key))
    before = state.contexts()
    for given in (
        {"cert": leaf.cert, "key": b"no key"},
        {"sni_options": {"a.example": {"cert": b"none"}}, "min_version": "TLSv1.3"},
        {"min_version": "TLSv1.3", "max_version": "TLSv1.2"},
        {"min_version": "TLSv1.3", "secure": True},
    ):
        with pytest.raises((TypeError, ValueError)):
            state.update(given)
        assert state.contexts() is before
    state.update({})
    options, sni_options = built[-1][:2]
    assert options.min_version is None
    assert sni_options == {}


@pytest.mark.parametrize("name", ["secure", "max_clients", "logger", "onData", "name", "nonsense"])
def test_only_tls_options_can_be_replaced(name: str) -> None:
    with pytest.raises(TypeError, match=f"unknown option '{name}'"):
        TLSState(Options()).update({name: True})


def test_a_slow_update_delays_no_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate may be read from something slow; nor could a close() end that wait."""
    leaf = Authority().issue("mx.example")
    state = TLSState(Options(cert=leaf.cert, key=leaf.key))
    before = state.contexts()
    building, may_go_on = threading.Event(), threading.Event()
    build = SecureContexts.build

    def slowly(*arguments: Any) -> SecureContexts:
        building.set()
        assert may_go_on.wait(TIMEOUT)
        return build(*arguments)

    monkeypatch.setattr(SecureContexts, "build", slowly)
    updating = threading.Thread(target=state.update, args=({"min_version": "TLSv1.3"},))
    updating.start()
    assert building.wait(TIMEOUT)
    assert state.contexts() is before
    may_go_on.set()
    updating.join(TIMEOUT)
    assert state.contexts() is not before


def test_the_first_contexts_are_made_once(built: list[tuple[Any, ...]]) -> None:
    state = TLSState(Options())
    with ThreadPoolExecutor(4) as threads:
        made = {id(each) for each in threads.map(lambda _: state.contexts(), range(8))}
    assert len(made) == len(built) == 1
