"""What ``celery worker`` loads."""

from stress import shop

app = shop.worker()
