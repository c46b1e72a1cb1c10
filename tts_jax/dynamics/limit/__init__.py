"""The two-timescale limit: in closed form, and from event to event."""

from .limit import TwoTimescaleLimit as TwoTimescaleLimit
