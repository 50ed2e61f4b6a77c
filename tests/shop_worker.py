"""The module that ``celery -A`` names: the worker's own process starts here."""

from tests.shop import start_worker_process

app = start_worker_process()
