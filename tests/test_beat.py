"""What beat sends has no request, and its header is not taken for one."""

from __future__ import annotations

from pathlib import Path

from tests import ways
from tests.ways import Lab

pytestmark = ways.quiet


def test_scheduled_tasks_run_in_an_app_context(tmp_path: Path) -> None:
    """Beat's own ``celery_beat_task`` header leads to no error and no request."""
    names = {
        f"{kind}.{task}": f"{kind}-{task}"
        for kind in ways.LABELS
        for task in ("note", "child")
    }
    settings = ways.lab_settings("redis", tmp_path)
    settings["beat_schedule"] = {
        name: {
            "task": name,
            "schedule": 0.3,
            "kwargs": {"path": str(tmp_path / file)},
        }
        for name, file in names.items()
    }
    lab = Lab(settings, tmp_path)
    schedule = str(tmp_path / "schedule")
    lab.worker = ways.start_worker(settings, tmp_path, "-B", "-s", schedule)
    try:
        lab.worker.wait_for("Sending due task above.child")
        for file in names.values():
            path = tmp_path / file
            lines = ways.lines_of(path, 2)
            assert len(lines) >= 2
            assert set(lines) == {"app context"}
    finally:
        ways.close(lab)
