"""A demo beside the settings of a real installation reaches nothing real."""

import re
from pathlib import Path

from dashboard import demo, settings


def test_no_secret_and_no_address_of_a_real_installation_reaches_a_demo(tmp_path: Path) -> None:
    secrets = re.findall(r'env\.secret\("([A-Z_]+)"', Path(settings.__file__).read_text())
    assert len(secrets) > 6
    environment = demo._environment(8000, 8801, tmp_path)
    for name in [*secrets, *(f"{name}_FILE" for name in secrets), "ALERT_EMAILS"]:
        assert name in environment, f"{name} of a real .env would be used"
    for real in ("ALERT_EMAILS", "ALERT_WEBHOOK_URL", "EMAIL_URL", "DATABASE_URL"):
        assert environment[real] == ""
