"""The application's own tests."""

import gc
import smtplib
import weakref

import pytest
from notes import Note, create_app, db, keep, send_digest, smtp
from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker

MESSAGE = "Subject: {}\n\nBuy milk.\n"


@pytest.fixture
def app(tmp_path):
    app = create_app(f"sqlite:///{tmp_path}/notes.sqlite3")
    yield app
    with app.app_context():
        db.engine.dispose()


def send(client, subject="Hello", to="me@notes.example"):
    return client.send_message(MESSAGE.format(subject), "ann@example.org", to)


def test_the_callback_shares_the_session_of_the_test(app):
    with app.app_context():
        db.session.add(Note(sender="bob", text="not committed"))
        seen = []
        server = smtp.make_server(app, on_rcpt_to=lambda *_: seen.append(Note.query.count()))
        with server.test_client() as client:
            assert send(client).code == 250
        assert seen == [1]
        assert [note.text for note in Note.query] == ["not committed", "Buy milk.\n"]
        assert send_is_rolled_back(server)


def send_is_rolled_back(server):
    with server.test_client() as client:
        assert send(client, "refuse").code == 552
    db.session.rollback()
    return Note.query.count() == 2


def test_each_callback_has_a_context_of_its_own(app):
    sessions = []

    def remember(address, session):
        sessions.append(weakref.ref(db.session()))

    server = smtp.make_server(app, on_rcpt_to=remember)
    with server.test_client() as client:
        assert send(client, to=["a@notes.example", "b@notes.example"]).code == 250
    gc.collect()
    assert [session() for session in sessions] == [None, None]
    with app.app_context():
        assert Note.query.count() == 1


def test_by_recipient(app):
    with smtp.make_server(app).test_client() as client:
        assert str(send(client, to="me+Urgent@notes.example")) == "250 2.6.0 at once"
        assert send(client, to="urgent@elsewhere.example").code == 250
        assert send(client, to="me@elsewhere.example").code == 550
        assert send(client, to=["me@notes.example", "urgent@notes.example"]).code == 250
    with app.app_context():
        assert [note.tag for note in Note.query] == ["urgent", "urgent", "", "urgent"]


def test_over_the_wire_nothing_stays_behind(app):
    with smtp.make_server(app).listen(0, "127.0.0.1") as server:
        for _ in range(10):
            with smtplib.SMTP("127.0.0.1", server.port) as client:
                client.sendmail("ann@example.org", "me@notes.example", MESSAGE.format("a"))
    with app.app_context():
        assert Note.query.count() == 10
        db.session.remove()
        assert db.engine.pool.checkedout() == 0


def test_a_session_of_plain_sqlalchemy_is_removed(app, tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/plain.sqlite3")
    Session = scoped_session(sessionmaker(engine))
    app.teardown_appcontext(lambda error: Session.remove())
    open_ones = []

    def on_rcpt_to(address, session):
        open_ones.append(Session.registry.has())
        Session.execute(text("SELECT 1"))

    with smtp.make_server(app, on_rcpt_to=on_rcpt_to).test_client() as client:
        send(client, to=["a@notes.example", "b@notes.example"])
    assert open_ones == [False, False]
    assert not Session.registry.has()
    engine.dispose()


def test_the_digest(app, smtp_server):
    app.config["MAIL"] = (smtp_server.host, smtp_server.port)
    with app.app_context():
        db.session.add(Note(text="see https://notes.example/1"))
        db.session.commit()
        send_digest("ann@example.org")
    (message,) = smtp_server.messages
    assert message.subject == "Notes"
    assert message.links == ["https://notes.example/1"]


def test_the_receiver_is_still_a_function():
    assert callable(keep)
