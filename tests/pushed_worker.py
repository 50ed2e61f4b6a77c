"""A worker that pushes a context when it is imported, and never pops it."""

import os

from tests import ways_tasks

app = ways_tasks.start_worker_process()
if os.environ["PUSHED"] == "app":
    ways_tasks.SERVING[-1].app_context().push()
else:
    ways_tasks.SERVING[-1].test_request_context("/", "http://pushed/").push()
