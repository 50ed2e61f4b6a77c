"""What ``gunicorn`` loads."""

from stress import shop

application = shop.web()
