"""``python -m tests.wsgiref_server module:application``"""

from __future__ import annotations

import importlib
import sys
from wsgiref.simple_server import make_server

module, _, name = sys.argv[1].partition(":")
application = getattr(importlib.import_module(module), name)
with make_server("127.0.0.1", 0, application) as server:
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
