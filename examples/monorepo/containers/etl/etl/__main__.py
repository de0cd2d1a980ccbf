"""`python -m etl`: reads a CSV file or URL of orders, writes features as lines of JSON."""

import argparse
import csv
import io
import sys
from datetime import date
from pathlib import Path

import requests
from pydantic import ValidationError

from common import log
from etl.features import Order, features

SAMPLE = Path(__file__).parent.parent / "data" / "orders.csv"


def read(source: str) -> str:
    """The text of a file or of a web address."""
    if source.startswith(("http://", "https://")):
        response = requests.get(source, timeout=30)
        response.raise_for_status()
        return response.text
    return Path(source).read_text()


def main() -> int:
    parser = argparse.ArgumentParser(prog="etl", description=__doc__)
    parser.add_argument("--input", default=str(SAMPLE), help="CSV file or URL (default: the sample)")
    parser.add_argument("--today", type=date.fromisoformat, default=date(2026, 1, 31))
    args = parser.parse_args()

    orders = []
    for number, row in enumerate(csv.DictReader(io.StringIO(read(args.input))), start=2):
        try:
            orders.append(Order.model_validate(row))
        except ValidationError as error:
            log("bad row", line=number, errors=error.error_count())
    result = features(orders, args.today)
    for line in result:
        print(line.model_dump_json())
    log("done", orders=len(orders), customers=len(result))
    return 0 if result else 1


sys.exit(main())
