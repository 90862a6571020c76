.PHONY: test test-slow lint docs docs-check

test:
	python -m pytest

test-slow:
	python -m pytest -m slow

lint:
	ruff check .
	ruff format --check .
	pyright

docs:
	python docs/generate.py
	python docs/api.py

docs-check:
	python docs/generate.py --check
