"""What the guestbook keeps."""

from django.db import models


class Blocked(models.Model):
    """Somebody who may not write."""

    address = models.CharField(max_length=200)


class Entry(models.Model):
    """An entry."""

    sender = models.CharField(max_length=200)
    text = models.TextField()
    zone = models.CharField(max_length=50)
    language = models.CharField(max_length=10)
