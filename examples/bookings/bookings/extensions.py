"""The extensions, without an app."""

from flask import has_request_context
from flask import request
from flask_babel import Babel
from flask_login import LoginManager
from flask_mailman import Mail
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)
babel = Babel()
mail = Mail()
login_manager = LoginManager()
login_manager.login_view = "auth.login"


def visitors_language():
    if not has_request_context():  # a task that beat has sent
        return None
    return request.accept_languages.best_match(["en", "de"])
