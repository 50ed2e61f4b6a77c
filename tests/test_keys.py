"""What a worker takes and refuses: keys, their rotation, and damaged contexts."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import re
import typing as t
import uuid
import zoneinfo
from decimal import Decimal
from pathlib import Path

import flask
import pytest
from celery import Celery
from flask import g
from flask import request
from flask import session
from markupsafe import Markup

from flask_task_context import BadContext
from flask_task_context import ContextError
from flask_task_context import LeftOut
from flask_task_context import context_restored
from flask_task_context import init_app
from flask_task_context import restore_context
from tests import secrecy
from tests.conftest import Worker
from tests.conftest import celery_settings
from tests.conftest import drop_queue

UTC = datetime.timezone.utc
ENCRYPT = {"TASK_CONTEXT_ENCRYPT": True}
KINDS: dict[str, dict[str, t.Any]] = {
    "signed": {},
    "encrypted": ENCRYPT,
    "unsigned": {"SECRET_KEY": None},
}


def header_of(**config: t.Any) -> str:
    """The header of a request to a shop with this configuration."""
    made = secrecy.make_shop({"broker_url": "memory://"}, **config)
    return made.capture(headers={"X-Request-Id": "r-1"})[secrecy.HEADER]


def restore(header: t.Any, **config: t.Any) -> str:
    app = secrecy.create_app(**config)
    with restore_context({secrecy.HEADER: header}, app):
        return request.url


# -- rotation ------------------------------------------------------------------------


@contextlib.contextmanager
def working(
    folder: Path, broker: str = "redis", **config: t.Any
) -> t.Iterator[tuple[Celery, Worker]]:
    settings = celery_settings(broker, folder)
    worker = secrecy.start_worker(settings, folder / "worker.log", **config)
    app = secrecy.make_shop(settings).celery
    try:
        yield app, worker
    finally:
        worker.kill()
        drop_queue(app)


@pytest.mark.parametrize(
    ("key", "fallbacks"), [("new", ["older", "old"]), ("old", ["new"])], ids=str
)
def test_keys_rotate_while_both_releases_run(
    tmp_path: Path, key: str, fallbacks: list[str]
) -> None:
    """A worker with the new key and the old one behind it runs the tasks of both
    releases, and so does a worker with the old key and the new one behind it,
    whether they are signed or encrypted."""
    config = {"SECRET_KEY": key, "SECRET_KEY_FALLBACKS": fallbacks}
    with working(tmp_path, **config) as (celery, _):
        results = [
            celery.tasks["shop.where"].apply_async(
                headers={secrecy.HEADER: header_of(SECRET_KEY=sender, **kind)}
            )
            for sender in ("old", "new")
            for kind in ({}, ENCRYPT)
        ]
        urls = [result.get(timeout=30, interval=0.02) for result in results]
    assert urls == ["http://localhost/item/3"] * 4


@pytest.mark.parametrize("kind", ["signed", "encrypted"])
def test_only_the_first_key_seals(kind: str) -> None:
    """A fallback verifies and never seals: once it is dropped, nothing needs it."""
    header = header_of(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"], **KINDS[kind])
    assert restore(header, SECRET_KEY="new") == "http://localhost/item/3"
    with pytest.raises(BadContext, match="with a SECRET_KEY that the app 'shop' does"):
        restore(header, SECRET_KEY="old")


@pytest.mark.parametrize("kind", ["signed", "encrypted"])
def test_a_dropped_key_is_refused(kind: str) -> None:
    """After the rotation, what the old key sealed is a foreign key's."""
    header = header_of(SECRET_KEY="old", **KINDS[kind])
    config = {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["old"], **KINDS[kind]}
    assert restore(header, **config) == "http://localhost/item/3"
    config["SECRET_KEY_FALLBACKS"] = []
    with pytest.raises(BadContext, match="with a SECRET_KEY that the app 'shop' does"):
        restore(header, **config)


def test_encryption_is_turned_on_in_the_web_process_first() -> None:
    """A worker that signs reads encrypted contexts, so that a rolling deploy of
    TASK_CONTEXT_ENCRYPT begins with the senders."""
    assert restore(header_of(**ENCRYPT)) == "http://localhost/item/3"


# -- what is refused, each with its own message -----------------------------------------


def flipped(header: str) -> str:
    middle = len(header) // 2
    return header[:middle] + chr(ord(header[middle]) ^ 1) + header[middle + 1 :]


def swapped(header: str) -> str:
    """Two neighbouring variables have changed their places."""
    first, second = '"HTTP_USER_AGENT":', '"HTTP_HOST":'
    assert header.index(first) < header.index(second)
    return header.replace(first, "@").replace(second, first).replace("@", second)


REFUSED: dict[str, tuple[t.Callable[[], t.Any], str]] = {
    "unsigned": (
        lambda: header_of(SECRET_KEY=None),
        r"^The context is unsigned, and the app 'shop' takes only signed ones",
    ),
    "foreign key": (
        lambda: header_of(SECRET_KEY="another"),
        r"^The context is signed with a SECRET_KEY that the app 'shop' does not have",
    ),
    "foreign encryption": (
        lambda: header_of(SECRET_KEY="another", **ENCRYPT),
        r"^The context is encrypted with a SECRET_KEY that the app 'shop' does not",
    ),
    "cut": (
        lambda: header_of()[:-9],
        (
            r"^The context was cut or changed on its way: \d+ characters have arrived where"
            r" \d+ were sent\. Find"
        ),
    ),
    "flipped": (
        lambda: flipped(header_of()),
        r"^The context was changed on its way: its signature is wrong\. Find",
    ),
    "flipped encrypted": (
        lambda: flipped(header_of(**ENCRYPT)),
        r"^The context was changed on its way: it does not decrypt\. Find",
    ),
    "swapped": (
        lambda: swapped(header_of()),
        r"^The context was changed on its way: its signature is wrong\. Find",
    ),
    "newer": (
        lambda: "2" + header_of()[1:],
        r"^The context has format 2, and this flask-task-context \(.*\) reads up to 1:",
    ),
    "much newer": (
        lambda: "12;whatever:comes",
        r"^The context is not one that flask-task-context wrote: find",
    ),
    "garbage": (
        lambda: "garbage",
        r"^The context is not one that flask-task-context wrote: find",
    ),
    "no string": (
        lambda: {"a": 1},
        r"^The context is no string but of type 'dict': send it",
    ),
}


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_a_worker_refuses_and_lives_on(tmp_path: Path, broker: str) -> None:
    """Each bad context fails its task with its own message, before the body; the
    worker runs the good task that comes after each."""
    good = {secrecy.HEADER: header_of()}
    with working(tmp_path, broker) as (celery, worker):
        task = celery.tasks["shop.leave_mark"]
        for kind, (make, message) in REFUSED.items():
            mark = tmp_path / "mark"
            bad = {secrecy.HEADER: make()}
            refused = task.apply_async((str(mark),), headers=bad)
            with pytest.raises(BadContext, match=message):
                refused.get(timeout=30, interval=0.02)
            assert not mark.exists(), kind
            followed = task.apply_async((str(mark),), headers=good)
            assert followed.get(timeout=30, interval=0.02) == "http://localhost/item/3"
            assert mark.exists()
            mark.unlink()
        assert worker.process.poll() is None


def test_a_name_in_the_message_gives_no_other_apps_rights() -> None:
    """A context of one app that is renamed for another fails at the other's key."""
    blog = flask.Flask("blog")
    blog.secret_key = "blog key"
    init_app(blog)
    init_app(secrecy.create_app())
    renamed = header_of().replace(":shop:", ":blog:", 1)
    with (
        pytest.raises(BadContext, match="with a SECRET_KEY that the app 'blog' does"),
        restore_context({secrecy.HEADER: renamed}),
    ):
        pytest.fail("restored")


# -- damage, at every place ---------------------------------------------------------------


def refused(header: str, app: flask.Flask) -> bool:
    try:
        with restore_context({secrecy.HEADER: header}, app):
            return False
    except ContextError as error:
        return re.match("The context ", str(error)) is not None


def longer(header: str) -> t.Iterator[str]:
    """A blank, a digit, base64's padding and more, with the length as it was, or right."""
    length = int(header.split(":")[4])
    for n, more in itertools.product(range(len(header) + 1), " 0=A!\n:"):
        yield (changed := header[:n] + more + header[n:])
        yield changed.replace(f":{length}:", f":{length + 1}:", 1)


#: What can become of a context, with another one at hand. (An empty header is no context
#: at all, which a sender may ask for.)
DAMAGE: dict[str, t.Callable[[str, str], t.Iterable[str]]] = {
    "cut": lambda one, other: (one[:n] for n in range(1, len(one))),
    "a bit": lambda one, other: (
        one[:n] + chr(ord(one[n]) ^ (1 << bit)) + one[n + 1 :]
        for n, bit in itertools.product(range(len(one)), range(8))
    ),
    "a character too many": lambda one, other: longer(one),
    "neighbours swapped": lambda one, other: (
        one[:n] + one[n + 1] + one[n] + one[n + 2 :] for n in range(len(one) - 1)
    ),
    "another order": lambda one, other: map(
        ":".join, itertools.permutations(one.split(":", 5))
    ),
    "two in one": lambda one, other: (one[:n] + other[n:] for n in range(len(one))),
}


@pytest.mark.parametrize(
    ("kind", "damage"),
    [*itertools.product(["signed", "encrypted"], DAMAGE), ("unsigned", "cut")],
)
def test_damage_at_every_place_is_refused(kind: str, damage: str) -> None:
    """Whatever is cut off, changed, put in, or put elsewhere, no request is restored."""
    made = secrecy.make_shop({"broker_url": "memory://"}, **KINDS[kind])
    one, other = (
        made.capture(headers={"X-Request-Id": name})[secrecy.HEADER] for name in "12"
    )
    tried = set(DAMAGE[damage](one, other)) - {one, other}
    assert len(tried) > 40
    assert [each for each in tried if not refused(each, made.flask)] == []


# -- for ever ----------------------------------------------------------------------------

#: Contexts as the first version of this format wrote them. They are never made anew:
#: messages of this format may wait in a queue while the library is updated.
FROZEN = {
    "signed text": (
        '1:signed:shop:K_DRyU:895:{"server":["POST","/shop","/item/3","q=1&q=%C3%'
        'A9","anna.example","8443","HTTP/1.1","203.0.113.9","https",false,false,f'
        'alse],"environ":{"HTTP_HOST":"anna.example:8443","CONTENT_TYPE":"applica'
        'tion/x-www-form-urlencoded","CONTENT_LENGTH":"25","HTTP_USER_AGENT":"fro'
        'zen","HTTP_ACCEPT_LANGUAGE":"de,en;q=0.5"},"session":{"when":{" dt":["20'
        '26-11-22T09:30:00",0,0]},"id":{" u":"00000000000000000000000000000007"},'
        '"raw":{" b":"/w=="},"html":{" m":"<b>"},"pair":{" t":[1,"two"]},"local":'
        '{" dt":["2026-11-22T09:30:00.000005",null,0]},"berlin":{" dt":["2026-10-'
        '25T02:30:00","Europe/Berlin",1]},"day":{" a":"2026-11-22"},"price":{" n"'
        ':"1.10"},"some":{" s":[1]},"few":{" f":[2]},"numbered":{" di":[[12,[null'
        ']]]}},"g":{"tenant":{" t":["north",4]}},"signals":{"trace":"00-ab"},"bod'
        'y":{"text":"to=x&to=%C3%A9"},"missing":{"TASK_CONTEXT_EXCLUDE":["header '
        "'X-Api-Key'\",\"session key 'token'\",\"field 'password'\"]}}.3qcyG1gMgVc19Nc"
        "rNY0bwqDB3sREWQZy--4VrYLeIrw"
    ),
    "signed form": (
        '1:signed:shop:K_DRyU:1338:{"server":["POST","/shop","/item/3","q=1&q=%C3'
        '%A9","anna.example","8443","HTTP/1.1","203.0.113.9","https",false,false,'
        'false],"environ":{"HTTP_HOST":"anna.example:8443","CONTENT_TYPE":"multip'
        'art/form-data; boundary=\\"---------------WerkzeugFormPart_1795702961.175'
        '67280.24897162861493582\\"","CONTENT_LENGTH":"2796","HTTP_USER_AGENT":"fr'
        'ozen","HTTP_ACCEPT_LANGUAGE":"de,en;q=0.5"},"session":{"when":{" dt":["2'
        '026-11-22T09:30:00",0,0]},"id":{" u":"00000000000000000000000000000007"}'
        ',"raw":{" b":"/w=="},"html":{" m":"<b>"},"pair":{" t":[1,"two"]},"local"'
        ':{" dt":["2026-11-22T09:30:00.000005",null,0]},"berlin":{" dt":["2026-10'
        '-25T02:30:00","Europe/Berlin",1]},"day":{" a":"2026-11-22"},"price":{" n'
        '":"1.10"},"some":{" s":[1]},"few":{" f":[2]},"numbered":{" di":[[12,[nul'
        'l]]]}},"g":{"tenant":{" t":["north",4]}},"signals":{"trace":"00-ab"},"bo'
        'dy":{"form":[["to","x"],["to","\\u00e9"]],"files":[["small","a.csv",[["Co'
        'ntent-Disposition","form-data; name=\\"small\\"; filename=\\"a.csv\\""],["Co'
        'ntent-Type","text/csv"]],"YSxi",null],["large","b.bin",[["Content-Dispos'
        'ition","form-data; name=\\"large\\"; filename=\\"b.bin\\""],["Content-Type",'
        '"application/octet-stream"]],null,["uploaded file \'large\'",2000,"it does'
        ' not fit into TASK_CONTEXT_MAX_SIZE"]]]},"missing":{"TASK_CONTEXT_EXCLUD'
        'E":["header \'X-Api-Key\'","session key \'token\'","field \'password\'"]}}.elX'
        "8nEpWBeoADWonPb-JYkfX6uWOGRM4gl765-TMTao"
    ),
    "encrypted": (
        "1:encrypted:shop:K_DRyU:1144:asxn8irVbQkw_VjctIkRZzM-OtNGtQmeGmps9Zdib3l"
        "-Qv1wOV5MbWp5HApuXfDLHjJBQWg66utnY--1J5NF5GqUkea5K4goC-7HwTwRI3nVk18r24Z"
        "t21okXy-vuA-K4CKvRbQCtDLJCpXBsUZsLriHcb1ewQYZqpUviegoMuFWZubkxAXt03wA5a2"
        "CdhhaEz9MhIAdvzq9NGclrEprVDD13UF05dMU3cBFzrli6poRTCf8i3b6X6m-qOaiWKelwTR"
        "zdbcEMHKpJYAGOJi8W69WvlBcUlz8zTSx2xYBscvmcpb-j1hVGUwOWdeFS6SwLqDoHgMwWCJ"
        "7x3gQdTnbsWyhFFBftL9UKYxzr3CTWW9ur_E6WdN-3sBnVDXWhvvMWwcwfHDXk7DAMqwHJ4g"
        "Gw7578WB2s_ovhxS_KLrmJxD_-Ks0ys7rztAvJFlc--MT8egKB8Eg_-DTpjmUpIl5MBADuut"
        "ifiEZuU50K1K8d3YSzWW1xObYM-_lyX-rmRECTJV-poge9lUdQpERPYodZ-QPSfF0xFubbeH"
        "E2nW6RhI7MnDSVdfCvioJKy2sEGVpn2aKSB-0jgYJprSCVPZFStuVhbDqiTdYzCF2h1o_KjH"
        "CgVp6lC-sQ5EUT_2NRTvhLmQnvfKRYV9bfafVfwe10j5tcBPGL4SoikBRpEx6FQJXvYRSLxa"
        "MMsoCf561h5swNZmRllnbdr6rEsex7GcCxt2kcEPepYZNXm031EQ4kQRLwRA7WDje8Iznrmk"
        "jtYyh0e54qD8bfm8F75QygijhCTnoXLVvwh9C0Ma-qlihuyDJClkYkweXaLqCSm-lCHJulPo"
        "WIMWH8k3EtgZNEfdvlZyI1Iu0SFnhygj6cyHkrcpW1Mn1U8ZbR4w3WVl99OQgAeu209UOg6g"
        "enzUnuGuW5QPAXg4spSrpfFFJ4t8SPF4n-UbKG0nBkN9HEKbBXFYTK1hjdJdeojT73X13Ttm"
        "-Qv0MFthhXlpRgOB8RSclgqCaKdg3QUAyPY77hYdrQjhbbCuI1VyG4VurJAWmR5nAFdWULzO"
        "rsMebe91bz5AZwdo8Bz-D47pIn3v-xMHJyDuet8JaPpeMMCZbbJtPOGF8xDyze4ZWiXac6DH"
        "JxCqQYrr3WcMTJuGPmV0="
    ),
    "unsigned": (
        '1:unsigned:shop::459:{"server":["POST","/shop","/item/3","q=1&q=%C3%A9",'
        '"anna.example","8443","HTTP/1.1","203.0.113.9","https",false,false,false'
        '],"environ":{"HTTP_HOST":"anna.example:8443","CONTENT_TYPE":"application'
        '/x-www-form-urlencoded","CONTENT_LENGTH":"14","HTTP_USER_AGENT":"frozen"'
        ',"HTTP_ACCEPT_LANGUAGE":"de,en;q=0.5"},"g":{"tenant":{" t":["north",4]}}'
        ',"signals":{"trace":"00-ab"},"body":{"text":"to=x&to=%C3%A9"},"missing":'
        '{"TASK_CONTEXT_EXCLUDE":["header \'X-Api-Key\'"]}}'
    ),
}


@pytest.mark.parametrize("kind", FROZEN)
def test_a_context_of_format_1_reads_for_ever(kind: str) -> None:
    """What the first version sent is read by every later one, whole."""
    made = secrecy.make_shop(
        {"broker_url": "memory://"},
        SECRET_KEY=None if kind == "unsigned" else "frozen key",
        TASK_CONTEXT_ENCRYPT=kind == "encrypted",
    )
    entries: list[t.Any] = []

    def receive(
        sender: flask.Flask, entries_then: t.Any = entries, **kept: t.Any
    ) -> None:
        entries_then.append(kept["entries"])

    with (
        context_restored.connected_to(receive, made.flask),
        restore_context({secrecy.HEADER: FROZEN[kind]}, made.flask),
    ):
        assert request.method == "POST"
        assert request.url == "https://anna.example:8443/shop/item/3?q=1&q=é"
        assert request.view_args == {"number": 3}
        assert request.remote_addr == "203.0.113.9"
        assert request.headers["Accept-Language"] == "de,en;q=0.5"
        assert request.form.to_dict(flat=False) == {"to": ["x", "é"]}
        assert g.tenant == ("north", 4)
        assert entries == [{"trace": "00-ab"}]
        if kind == "signed form":
            assert request.files["small"].read() == b"a,b"
            assert request.files["small"].content_type == "text/csv"
            with pytest.raises(
                LeftOut, match=r"^The uploaded file 'large' \(2000 bytes"
            ):
                request.files["large"].read()
        if kind == "unsigned":
            assert dict(session) == {}
        else:
            values = dict(session)
            assert values["berlin"].fold == 1
            assert values["berlin"].tzinfo == zoneinfo.ZoneInfo("Europe/Berlin")
            assert values == {
                "when": datetime.datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
                "id": uuid.UUID(int=7),
                "raw": b"\xff",
                "html": Markup("<b>"),
                "pair": (1, "two"),
                "local": datetime.datetime(2026, 11, 22, 9, 30, 0, 5),
                "berlin": values["berlin"],
                "day": datetime.date(2026, 11, 22),
                "price": Decimal("1.10"),
                "some": {1},
                "few": frozenset([2]),
                "numbered": {12: [None]},
                **({"token": "t"} if kind == "encrypted" else {}),
            }
