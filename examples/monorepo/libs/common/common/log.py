"""One log line is one JSON object on stderr, so that results on stdout can be piped."""

import json
import sys
from datetime import datetime, timezone
from typing import Any


def log(event: str, **fields: Any) -> None:
    """Writes one event with its fields."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    print(json.dumps({"time": now, "event": event, **fields}, default=str), file=sys.stderr)
