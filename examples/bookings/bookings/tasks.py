"""What the worker does."""

import csv
import io
from datetime import timedelta

from celery import Task
from celery import shared_task
from flask import current_app
from flask import g
from flask import render_template
from flask import url_for
from flask_babel import force_locale
from flask_babel import format_date
from flask_babel import gettext
from flask_login import current_user
from flask_mailman import EmailMessage
from sqlalchemy import select

from flask_task_context import with_request_context

from .extensions import db
from .models import Booking
from .models import Tour
from .models import now


@with_request_context
class Transaction(Task):
    """Every task of this app is one transaction, in the request that it was sent from.

    Mails wait in ``g.mails`` for the commit: a task that fails sends none.
    """

    def __call__(self, *args, **kwargs):
        mails = g.mails = []
        try:
            result = super().__call__(*args, **kwargs)
            db.session.commit()
        except BaseException:
            db.session.rollback()
            raise
        for mail in mails:
            send_mail.delay(*mail)
        return result


@shared_task(autoretry_for=(OSError,), retry_backoff=True)
def send_mail(address, subject, text):
    """Tried again while the mail server does not answer."""
    EmailMessage(subject, text, to=[address]).send()


@shared_task
def confirm(booking_id):
    """Take the seats. If there are not so many, the database refuses the commit."""
    booking = db.session.get(Booking, booking_id, with_for_update=True)
    if booking.confirmed:
        return  # a broker may deliver a message twice
    g.mails.append(write_mail("confirmed", booking))
    booking.tour.free = Tour.free - booking.seats
    booking.confirmed = True


@shared_task(ignore_result=False)
def export():
    """Give the visitor's bookings as CSV, in their language, with links on their host."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(
        [gettext("Tour"), gettext("Day"), gettext("Seats"), gettext("Link")]
    )
    for booking in db.session.scalars(select(Booking).filter_by(user=current_user)):
        day = format_date(booking.tour.day)
        writer.writerow([booking.tour.title, day, booking.seats, link_to(booking)])
    return file.getvalue()


@shared_task
def clean_up():
    """Drop bookings that have waited for a day. Beat sends it, so there is no visitor:
    links are on the configured host, and each mail is in its reader's language."""
    old = Booking.made < now() - timedelta(days=1)
    for booking in db.session.scalars(select(Booking).where(~Booking.confirmed, old)):
        home = current_app.test_request_context(base_url=current_app.config["BASE_URL"])
        with home, force_locale(booking.user.language):
            mail = write_mail("dropped", booking)
        g.mails.append(mail)
        db.session.delete(booking)


def write_mail(name, booking):
    """Give address, subject and text."""
    link = link_to(booking)
    written = render_template(f"mail/{name}.txt", booking=booking, link=link)
    subject, _, text = written.partition("\n\n")
    return booking.user.email, subject, text


def link_to(booking):
    return url_for("tours.show", booking_id=booking.id, _external=True)
