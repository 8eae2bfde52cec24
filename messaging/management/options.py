"""Options that are read twice: before the settings, which depend on them, and by Django for the command and its help."""

import argparse
import os
from pathlib import Path


def add_demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or "8000", help="of the web pages (8000)")
    parser.add_argument("--simulator-port", type=int, help="of the simulated Catena (8801, or any free one)")
    parser.add_argument("--var", type=Path, help="folder for the database, secrets and logs (VAR_DIR, or var)")
