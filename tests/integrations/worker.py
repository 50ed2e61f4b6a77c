"""What ``celery -A`` loads in the worker of one integration, and the WSGI server
where that is a process of its own."""

from __future__ import annotations

import importlib
import json
import os

from flask_task_context import init_app

settings = json.loads(os.environ["SHOP_SETTINGS"])
module = importlib.import_module(os.environ["INTEGRATION"])
flask_app = module.create_app(**settings["flask"])
init_app(flask_app)
app = module.create_celery(flask_app, **settings["celery"])
flask_app.extensions["celery"] = app
