"""What the WSGI servers of test_fidelity load."""

import os

from tests import observed

application = observed.front(os.environ["OBSERVED_FOLDER"])
