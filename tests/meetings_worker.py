"""The module that ``celery -A`` names: a worker where features meet."""

from tests.meetings import start_worker_process

app = start_worker_process()
