"""The module that ``celery -A`` names: a worker whose tasks have base classes."""

from tests.bases import start_worker_process

app = start_worker_process()
