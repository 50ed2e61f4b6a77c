"""A small booking site, whose mails and files are made by a Celery worker."""

from datetime import date
from os import environ

from celery import Celery
from celery.schedules import crontab
from flask import Flask
from flask_babel import get_locale

import flask_task_context

from . import auth
from . import tours
from .extensions import babel
from .extensions import db
from .extensions import login_manager
from .extensions import mail
from .extensions import visitors_language
from .models import Tour
from .tasks import Transaction


def create_app():
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY=environ["SECRET_KEY"],  # one key for web, worker and beat
        SESSION_COOKIE_SAMESITE="Lax",
        SQLALCHEMY_DATABASE_URI=environ["DATABASE_URL"],
        BASE_URL=environ["BASE_URL"],  # of links in mails that no visit has caused
        MAIL_SERVER=environ["MAIL_SERVER"],
        MAIL_PORT=int(environ["MAIL_PORT"]),
        MAIL_DEFAULT_SENDER="tours@example.com",
        CELERY={
            "broker_url": environ["CELERY_BROKER_URL"],
            "result_backend": environ["CELERY_RESULT_BACKEND"],
            "broker_connection_retry_on_startup": True,
            "task_ignore_result": True,
            "beat_schedule": {
                "clean_up": {
                    "task": "bookings.tasks.clean_up",
                    "schedule": crontab(hour=3, minute=0),
                },
            },
        },
    )
    app.config.from_prefixed_env()  # any other setting, as FLASK_...

    db.init_app(app)
    login_manager.init_app(app)
    babel.init_app(app, locale_selector=visitors_language)
    mail.init_app(app)
    celery_init_app(app)
    flask_task_context.init_app(app)
    app.register_blueprint(auth.bp)
    app.register_blueprint(tours.bp)
    app.add_template_global(get_locale)
    app.cli.command("init-db")(init_db)
    return app


def celery_init_app(app):
    celery_app = Celery(app.name, task_cls=Transaction)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app


def init_db():
    """Make the tables, and two tours."""
    db.create_all()
    db.session.add(Tour(title="Harz", day=date(2030, 5, 1), free=12))
    db.session.add(Tour(title="Elbe", day=date(2030, 6, 9), free=2))
    db.session.commit()
