"""The WSGI application that a production server runs."""

import gc
import os

from dashboard.handler import make_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dashboard.settings")
application = make_application()
# What start-up made stays for good, and a page makes thousands of objects that go with it: looking through them all for
# cycles time and again took a twentieth of a page.
gc.collect()
gc.freeze()
gc.set_threshold(20_000)
