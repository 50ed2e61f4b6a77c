import socket

import pytest
from bookings import create_app


@pytest.fixture
def app(monkeypatch, tmp_path):
    """The app on files of its own. Its tasks run in place, its mails are kept."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free_port = server.getsockname()[1]
    settings = {
        "SECRET_KEY": "test",
        "DATABASE_URL": f"sqlite:///{tmp_path}/bookings.sqlite",
        "CELERY_BROKER_URL": f"sqla+sqlite:///{tmp_path}/queue.sqlite",
        "CELERY_RESULT_BACKEND": f"db+sqlite:///{tmp_path}/results.sqlite",
        "BASE_URL": "https://tours.example",
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": str(free_port),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    app = create_app()
    app.extensions["mailman"].backend = "locmem"
    app.extensions["mailman"].outbox = []
    app.extensions["celery"].conf.task_always_eager = True
    app.test_cli_runner().invoke(args=["init-db"])
    return app


@pytest.fixture
def anna(app):
    return Visitor(app, "anna@example.com", "https://anna.example", "de-AT,de")


@pytest.fixture
def ben(app):
    return Visitor(app, "ben@example.com", "http://ben.example:8080", "en")


class Visitor:
    """A browser with a language, that sees the app at an address of its own."""

    def __init__(self, app, email, url, language):
        self.client, self.url = app.test_client(), url
        self.headers = {"Accept-Language": language}
        self.post("/auth/register", email=email, password="pear")

    def get(self, path):
        return self.client.get(path, base_url=self.url, headers=self.headers)

    def post(self, path, **form):
        """Go where the answer leads."""
        options = {"base_url": self.url, "headers": self.headers}
        return self.client.post(path, data=form, follow_redirects=True, **options)
