"""One connection over one Trio transport."""
