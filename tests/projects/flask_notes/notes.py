"""A small Flask application: notes, taken by mail, and sent as a digest."""

import os
import smtplib
from email.message import EmailMessage

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy

from blocksmtp import SMTPError
from blocksmtp.contrib.flask import BlockSMTP

db = SQLAlchemy()
smtp = BlockSMTP()


class Note(db.Model):
    """A note."""

    id = db.Column(db.Integer, primary_key=True)
    sender = db.Column(db.String)
    text = db.Column(db.String)
    tag = db.Column(db.String)


def create_app(database=None):
    """The application."""
    app = Flask(__name__)
    uri = database or os.environ.get("NOTES_DATABASE", "sqlite:///notes.sqlite3")
    app.config["SQLALCHEMY_DATABASE_URI"] = uri
    app.config["MAIL"] = ("127.0.0.1", 25)
    app.config["BLOCKSMTP"] = {
        "RECIPIENT_DOMAINS": ["notes.example"],
        "OPTIONS": {"disable_reverse_lookup": True, "name": "mx.notes.example"},
    }
    db.init_app(app)
    smtp.init_app(app)
    with app.app_context():
        db.create_all()
    return app


@smtp.receiver("*+urgent@notes.example", "urgent@*")
def keep_urgent(message):
    keep(message, "urgent")
    return "at once"


@smtp.receiver
def keep(message, tag=""):
    db.session.add(Note(sender=message.envelope.mail_from.address, text=message.text, tag=tag))
    if message.subject == "refuse":
        raise SMTPError("Not today", 552)
    db.session.commit()


def send_digest(address):
    """Send all notes to somebody."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "digest@notes.example", address, "Notes"
    message.set_content("\n".join(note.text for note in Note.query))
    with smtplib.SMTP(*current_app.config["MAIL"]) as client:
        client.send_message(message)
