import subprocess
import sys
from datetime import timedelta
from queue import Queue

from aiosmtpd.controller import Controller
from bookings import tasks
from bookings.extensions import db
from bookings.models import Booking
from bookings.models import Tour

HARZ, ELBE = 1, 2  # 12 and 2 seats are free


def sent(app):
    """Receiver, subject and text of each mail."""
    mails = app.extensions["mailman"].outbox
    return [(mail.to[0], mail.subject, mail.body) for mail in mails]


def free_seats(app, tour_id):
    with app.app_context():
        return db.session.get(Tour, tour_id).free


def test_a_mail_confirms_the_booking(app, anna, ben):
    """Each visitor's mail is in their language, with links on their host."""
    assert "Bestätigt." in anna.post(f"/tours/{HARZ}/book", seats=2).text
    assert "Confirmed." in ben.post(f"/tours/{HARZ}/book", seats=3).text
    (anna_at, anna_subject, anna_text), (ben_at, ben_subject, ben_text) = sent(app)
    assert (anna_at, anna_subject) == ("anna@example.com", "Ihre Buchung: Harz")
    assert "Ihre Plätze am 01.05.2030: 2\n" in anna_text
    assert "https://anna.example/bookings/1\n" in anna_text
    assert (ben_at, ben_subject) == ("ben@example.com", "Your booking: Harz")
    assert "http://ben.example:8080/bookings/2\n" in ben_text
    assert free_seats(app, HARZ) == 7
    assert ben.get("/bookings/1").status_code == 404


def test_a_task_that_fails_changes_nothing_and_sends_no_mail(app, anna):
    """There are not so many seats: the commit fails, after the mail was written."""
    page = anna.post(f"/tours/{ELBE}/book", seats=3)
    assert "Noch nicht bestätigt." in page.text
    assert free_seats(app, ELBE) == 2
    assert sent(app) == []


def test_a_message_that_comes_twice(app, anna):
    anna.post(f"/tours/{HARZ}/book", seats=2)
    tasks.confirm.delay(1)
    assert free_seats(app, HARZ) == 10
    assert len(sent(app)) == 1


def test_the_file_has_the_visitors_bookings_alone(app, anna, ben):
    app.extensions["celery"].conf.task_store_eager_result = True
    anna.post(f"/tours/{HARZ}/book", seats=2)
    ben.post(f"/tours/{HARZ}/book", seats=1)
    assert anna.post("/export").text.splitlines() == [
        "Tour,Datum,Plätze,Link",
        "Harz,01.05.2030,2,https://anna.example/bookings/1",
    ]


def test_the_nightly_task_has_no_visitor(app, anna):
    """It takes the configured host, and the language that its reader has had."""
    anna.post(f"/tours/{ELBE}/book", seats=3)
    anna.post(f"/tours/{ELBE}/book", seats=4)
    with app.app_context():
        db.session.get(Booking, 1).made -= timedelta(days=2)
        db.session.commit()
    tasks.clean_up.delay()
    assert anna.get("/bookings/1").status_code == 404
    assert anna.get("/bookings/2").status_code == 200
    ((address, subject, text),) = sent(app)
    assert (address, subject) == ("anna@example.com", "Keine Plätze: Elbe")
    assert "Weitere Touren: https://tours.example/" in text


def test_with_a_real_worker(app, anna):
    """The same mail, through a broker, a worker's process and a mail server."""
    app.extensions["celery"].conf.task_always_eager = False
    mails = Queue()

    class Inbox:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            mails.put(envelope.content.decode())
            return "250 OK"

    port = app.config["MAIL_PORT"]
    command = "-m celery -A bookings.make_celery worker --pool solo"
    inbox = Controller(Inbox(), hostname="127.0.0.1", port=port)
    inbox.start()
    worker = subprocess.Popen([sys.executable, *command.split()])
    try:
        anna.post(f"/tours/{HARZ}/book", seats=2)
        mail = mails.get(timeout=30)
    finally:
        worker.terminate()
        worker.wait(30)
        inbox.stop()
    assert "Subject: Ihre Buchung: Harz" in mail
    assert "https://anna.example/bookings/1" in mail
