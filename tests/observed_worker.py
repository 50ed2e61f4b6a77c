"""What the workers of test_fidelity load."""

import json
import os

from celery import Celery

from flask_task_context import init_app
from flask_task_context import with_request_context
from tests import observed

init_app(observed.create_app())
app = Celery("observed")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"])["celery"])
app.task(with_request_context(observed.observe), name="observed.observe")
