.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
