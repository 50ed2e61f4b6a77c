"""The tours, and the visitor's bookings."""

from celery.result import AsyncResult
from flask import Blueprint
from flask import Response
from flask import abort
from flask import current_app
from flask import flash
from flask import redirect
from flask import render_template
from flask import request
from flask import session
from flask import url_for
from flask_babel import gettext
from flask_login import current_user
from flask_login import login_required
from sqlalchemy import select

from flask_task_context import delay_with_context

from . import tasks
from .extensions import db
from .models import Booking
from .models import Tour

bp = Blueprint("tours", __name__)


@bp.get("/")
def index():
    tours = db.session.scalars(select(Tour).order_by(Tour.day))
    return render_template("index.html", tours=tours)


@bp.post("/tours/<int:tour_id>/book")
@login_required
def book(tour_id):
    tour = db.get_or_404(Tour, tour_id)
    seats = request.form.get("seats", 0, type=int)
    if seats < 1:
        abort(400)
    booking = Booking(user_id=current_user.id, tour_id=tour.id, seats=seats)
    db.session.add(booking)
    db.session.commit()  # before the task is sent: the worker has to find it
    delay_with_context(tasks.confirm, booking.id)
    flash(gettext("Thank you. If there are seats, a mail is on its way."))
    return redirect(url_for(".show", booking_id=booking.id))


@bp.get("/bookings/<int:booking_id>")
@login_required
def show(booking_id):
    booking = db.get_or_404(Booking, booking_id)
    if booking.user_id != current_user.id:
        abort(404)
    return render_template("booking.html", booking=booking)


@bp.post("/export")
@login_required
def start_export():
    session["export"] = delay_with_context(tasks.export).id
    return redirect(url_for(".export"))


@bp.get("/export")
@login_required
def export():
    """The file that the worker has made, or a page that asks again."""
    if "export" not in session:
        abort(404)
    result = AsyncResult(session["export"], app=current_app.extensions["celery"])
    if not result.ready():
        return render_template("wait.html"), 202, {"Refresh": "1"}
    return Response(result.get(), mimetype="text/csv")
