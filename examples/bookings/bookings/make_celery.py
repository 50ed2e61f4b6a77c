"""What worker and beat load: ``celery -A bookings.make_celery worker``."""

from . import create_app

flask_app = create_app()
celery_app = flask_app.extensions["celery"]
