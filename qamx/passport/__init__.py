"""The run's passport: all that determines a run's numbers, kept beside them."""

from qamx.passport.record import FILE_NAME, note_switches, read, stamp

__all__ = ["FILE_NAME", "note_switches", "read", "stamp"]
