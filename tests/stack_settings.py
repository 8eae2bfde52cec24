"""The product's own settings, but that a password is checked at once: as it is stored in earnest, each log-in of a test
would cost four tenths of a second of a processor.
"""

from dashboard.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
