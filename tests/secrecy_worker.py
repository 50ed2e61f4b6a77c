"""The module that ``celery -A`` names for the tests that use ``tests.secrecy``."""

from tests.secrecy import start_worker_process

app = start_worker_process()
