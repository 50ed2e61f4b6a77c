"""The module that ``celery -A`` names: a worker with the tasks of the table."""

from tests.ways_tasks import start_worker_process

app = start_worker_process()
