"""`python -m services.ingestion accept` and `python -m services.ingestion lake`"""

from __future__ import annotations

import argparse
import sys

from services.ingestion.app import run_accept, run_lake

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m services.ingestion", description=__doc__)
    parser.add_argument("part", choices=("accept", "lake"))
    sys.exit(run_accept() if parser.parse_args().part == "accept" else run_lake())
