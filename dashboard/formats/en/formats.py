"""English: day before month, 24 hours, and seconds, because operations are told apart by them."""

DATE_FORMAT = "j M Y"
TIME_FORMAT = "H:i:s"
DATETIME_FORMAT = "j M Y, H:i:s"
