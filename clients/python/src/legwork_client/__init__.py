"""Dispatch, follow and operate background agents of Legwork over HTTP."""

from . import models
from .client import Client, ListQuery, Problem
from .stream import Event

__all__ = ["Client", "Event", "ListQuery", "Problem", "models"]
