"""The worker of ``tests/interrupts.py``."""

import json
import os

import flask_task_context
from tests import interrupts

settings = json.loads(os.environ["SHOP_SETTINGS"])
flask_task_context.init_app(interrupts.create_app())
app = interrupts.create_celery(**settings["celery"])
