"""The module that ``celery -A`` names: a worker with the tasks of the rules."""

from tests.rules import start_worker_process

app = start_worker_process()
