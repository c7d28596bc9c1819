#!/usr/bin/env bash
# Runs the tests on the oldest versions that pyproject.toml allows, in an environment that is gone afterwards.
# What is given is handed to pytest; takes 8 GB in TMPDIR, and as long as the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export UV_CACHE_DIR="$folder/cache"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q uv
"$folder/venv/bin/uv" pip install -q --python "$folder/venv" --resolution lowest-direct --only-binary :all: \
    -r pyproject.toml --extra dev
"$folder/venv/bin/uv" pip install -q --python "$folder/venv" --no-deps -e .
"$folder/venv/bin/python" -m pytest -q "$@"
