.PHONY: test test-slow lint

test:
	python -m pytest

test-slow:
	python -m pytest -m slow

lint:
	ruff check .
	ruff format --check .
	pyright
