from datetime import date
from datetime import datetime
from datetime import timezone

from flask_login import UserMixin
from sqlalchemy import CheckConstraint
from sqlalchemy import DateTime
from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.orm import relationship

from .extensions import db


def now():
    return datetime.now(timezone.utc)


class User(UserMixin, db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str]
    language: Mapped[str]  # for mails that no visit of theirs has caused


class Tour(db.Model):
    __table_args__ = (CheckConstraint("free >= 0"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    day: Mapped[date]
    free: Mapped[int]


class Booking(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    tour_id: Mapped[int] = mapped_column(ForeignKey(Tour.id))
    seats: Mapped[int]
    confirmed: Mapped[bool] = mapped_column(default=False)
    made: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    user: Mapped[User] = relationship()
    tour: Mapped[Tour] = relationship()
