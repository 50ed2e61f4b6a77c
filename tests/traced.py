"""A worker and a sender with another tool that writes into message headers."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path


def start_tool(name: str) -> None:
    if name == "sentry":
        import sentry_sdk
        from sentry_sdk.integrations.celery import CeleryIntegration

        sentry_sdk.init(
            dsn="http://key@127.0.0.1:9/1",
            transport=lambda event: None,
            traces_sample_rate=1.0,
            default_integrations=False,
            integrations=[CeleryIntegration()],
        )
    else:
        from opentelemetry.instrumentation.celery import CeleryInstrumentor
        from opentelemetry.sdk.trace import TracerProvider

        CeleryInstrumentor().instrument(tracer_provider=TracerProvider())


if os.environ["TRACING_ORDER"] == "before":
    start_tool(os.environ["TRACING_TOOL"])
    from tests.ways_tasks import start_worker_process
else:
    from tests.ways_tasks import start_worker_process

    start_tool(os.environ["TRACING_TOOL"])

app = start_worker_process()


def transaction() -> contextlib.AbstractContextManager[object]:
    """What Sentry's integration for Flask opens around a view."""
    if os.environ["TRACING_TOOL"] != "sentry":
        return contextlib.nullcontext()
    import sentry_sdk

    return sentry_sdk.start_transaction(name="visit")


def main() -> None:
    from flask_task_context import apply_async_with_context
    from flask_task_context import delay_with_context
    from tests.conftest import Shop

    settings = json.loads(os.environ["SHOP_SETTINGS"])["celery"]
    notes = Path(os.environ["OUTPUT"]) / "notes"

    def view() -> list[object]:
        return [
            apply_async_with_context(app.tasks["below.headers"], headers={"mine": "1"}),
            delay_with_context(app.tasks["below.retry"], str(notes)),
            delay_with_context(app.tasks["above.child"], str(notes)),
        ]

    with transaction():
        results = Shop(settings).visit(view)
    seen = [result.get(timeout=30) for result in results]
    deadline = time.monotonic() + 20
    while len(lines := notes.read_text().splitlines()) < 6:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    print(json.dumps({"task": seen[0], "notes": lines}))


if __name__ == "__main__":
    main()
