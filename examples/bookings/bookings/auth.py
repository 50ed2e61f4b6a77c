"""Register, log in, log out."""

from flask import Blueprint
from flask import flash
from flask import redirect
from flask import render_template
from flask import request
from flask import url_for
from flask_babel import get_locale
from flask_babel import gettext
from flask_login import login_user
from flask_login import logout_user
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from werkzeug.security import check_password_hash
from werkzeug.security import generate_password_hash

from .extensions import db
from .extensions import login_manager
from .models import User

bp = Blueprint("auth", __name__, url_prefix="/auth")


@login_manager.user_loader
def load_user(user_id):
    return db.session.get(User, int(user_id))


@bp.route("/register", methods=["GET", "POST"])
def register():
    if request.method == "POST":
        password = generate_password_hash(request.form["password"])
        user = User(
            email=request.form["email"], password=password, language=str(get_locale())
        )
        db.session.add(user)
        try:
            db.session.commit()
        except IntegrityError:
            db.session.rollback()
            flash(gettext("This address is registered already."))
        else:
            login_user(user)
            return redirect(url_for("tours.index"))
    return render_template("auth.html", title=gettext("Register"))


@bp.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "POST":
        user = db.session.scalar(select(User).filter_by(email=request.form["email"]))
        if user and check_password_hash(user.password, request.form["password"]):
            login_user(user)
            return redirect(url_for("tours.index"))
        flash(gettext("The address or the password is wrong."))
    return render_template("auth.html", title=gettext("Log in"))


@bp.post("/logout")
def logout():
    logout_user()
    return redirect(url_for("tours.index"))
