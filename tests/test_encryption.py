"""With TASK_CONTEXT_ENCRYPT all of the request travels, and none can be read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import typing as t

import flask
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flask import request

from flask_task_context import BadContext
from flask_task_context import capture_context
from flask_task_context import init_app
from flask_task_context import restore_context
from tests import secrecy
from tests.conftest import Shop
from tests.test_credentials import CANARY
from tests.test_credentials import KEPT
from tests.test_credentials import PLACES
from tests.test_credentials import send_credentials


def make_shop(**config: t.Any) -> Shop:
    config = {"TASK_CONTEXT_ENCRYPT": True, **config}
    return secrecy.make_shop({"broker_url": "memory://"}, **config)


# -- who can read it ---------------------------------------------------------------


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def places(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("places")
    return secrecy.watch(
        request.param, folder, send_credentials, TASK_CONTEXT_ENCRYPT=True
    )


@pytest.mark.parametrize("place", PLACES)
def test_nothing_of_the_request_can_be_read_anywhere(
    places: dict[str, str], place: str
) -> None:
    """No header, field, path or variable name shows in the broker, log or monitor."""
    for word in (CANARY, KEPT, "Bearer", "/item/3", "HTTP_", "Werkzeug"):
        assert word not in places[place], word


def test_the_task_has_all_credentials(places: dict[str, str]) -> None:
    """Four headers and the form's, the JSON's or the file's secret are all there."""
    canaries = [count[0] for count in json.loads(places["seen"])]
    assert canaries == [6, 6, 5]  # a cookie counts twice; the file is empty


def test_cookies_passwords_and_authorization_travel() -> None:
    """What TASK_CONTEXT_EXCLUDE would leave out is as it was in the view."""
    made = make_shop()
    headers = secrecy.capture(
        made,
        headers={"Authorization": "Basic YW5uYTpwdw==", "Cookie": "a=b"},
        data={"password": "p", "token": "t"},
    )
    with restore_context(headers, made.flask):
        assert request.authorization is not None
        assert request.authorization.password == "pw"
        assert request.cookies.to_dict() == {"a": "b"}
        assert request.form.to_dict() == {"password": "p", "token": "t"}


# -- how it is sealed ----------------------------------------------------------------


def hkdf_sha256(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with no salt, for 32 bytes."""
    extracted = hmac.digest(b"\0" * 32, secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def test_the_message_is_aes_gcm_under_a_key_derived_with_hkdf() -> None:
    """Another implementation that knows the SECRET_KEY reads it: a 12-byte nonce, the
    key by HKDF-SHA256, and all that stands before the length as associated data."""
    header = make_shop().capture(headers={"X-Request-Id": KEPT})[secrecy.HEADER]
    version, kind, name, key_id, length, text = header.split(":")
    assert [version, kind, name, len(key_id)] == ["1", "encrypted", "shop", 6]
    assert int(length) == len(text)
    sealed = base64.urlsafe_b64decode(text)
    cipher = AESGCM(hkdf_sha256(b"shop key", b"flask-task-context encryption"))
    bound = f"{version}:{kind}:{name}:{key_id}".encode()
    payload = cipher.decrypt(sealed[:12], sealed[12:], bound)
    assert KEPT.encode() in payload


def test_every_message_has_a_nonce_of_its_own() -> None:
    """The same request captured many times never gives the same nonce or text."""
    made = make_shop()

    def view() -> list[str]:
        return [capture_context()[secrecy.HEADER] for _ in range(500)]

    sealed = [
        base64.urlsafe_b64decode(header.rpartition(":")[2])
        for header in made.visit(view)
    ]
    assert len({s[:12] for s in sealed}) == 500
    assert len({s[12:] for s in sealed}) == 500


@pytest.mark.parametrize("key", ["shop key", b"shop key", b"\x00\xff" * 16, "ключ"])
def test_keys_of_text_and_of_bytes(key: str | bytes) -> None:
    """Any SECRET_KEY that Flask takes encrypts and decrypts."""
    made = make_shop(SECRET_KEY=key)
    headers = made.capture(headers={"X-Request-Id": KEPT})
    with restore_context(headers, made.flask):
        assert request.headers["X-Request-Id"] == KEPT


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        (1, "signed", "was cut or changed on its way: "),
        (2, "office", "was changed on its way: it does not decrypt"),
        (3, "AAAAAA", "is encrypted with a SECRET_KEY that the app 'shop' does not"),
    ],
)
def test_what_stands_before_the_text_is_bound_to_it(
    part: int, value: str, message: str
) -> None:
    """An encrypted context cannot be passed off as another app's or another kind."""
    shops = make_shop()
    office = flask.Flask("office")
    office.config.update(SECRET_KEY="shop key", TASK_CONTEXT_ENCRYPT=True)
    init_app(shops.flask)
    init_app(office)
    parts = shops.capture()[secrecy.HEADER].split(":")
    parts[part] = value
    with (
        pytest.raises(BadContext, match=f"^The context {message}"),
        restore_context({secrecy.HEADER: ":".join(parts)}),
    ):
        pytest.fail("restored")


@pytest.mark.parametrize("letter", "+/")
def test_letters_of_the_other_base64_alphabet(letter: str) -> None:
    """They are refused like any other change, with no warning, not even on Python 3.15."""
    made = make_shop()
    start, colon, text = made.capture()[secrecy.HEADER].rpartition(":")
    with (
        pytest.raises(BadContext, match=r"does not decrypt"),
        restore_context(
            {secrecy.HEADER: f"{start}{colon}{letter}{text[1:]}"}, made.flask
        ),
    ):
        pytest.fail("restored")
