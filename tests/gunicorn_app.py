"""What the tests' ``gunicorn`` loads."""

import os

from tests import observed

application = observed.front(os.environ["OBSERVED_FOLDER"])
