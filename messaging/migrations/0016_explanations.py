"""The explanations that an installation starts with. Entries that name the same facts already stay as they are."""

from typing import Any

from django.db import migrations

from messaging.insight.starting_set import add_missing


def add_starting_set(apps: Any, schema_editor: Any) -> None:
    add_missing(apps.get_model("messaging", "Explanation"))


class Migration(migrations.Migration):
    dependencies = [("messaging", "0015_alerts")]

    operations = [migrations.RunPython(add_starting_set, migrations.RunPython.noop)]
