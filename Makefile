# What a person or a machine types. The work is in .ci/ and in manage.py; each target first installs what it needs.
SHELL = /bin/sh
install = python=$$(sh .ci/find-python) && "$$python" .ci/install.py

.PHONY: run demo-credentials demo-code check test soak bench format

run:
	@$(install) run && exec .venv/bin/python manage.py run

demo-credentials:
	@$(install) run && exec .venv/bin/python manage.py demo_credentials

demo-code:
	@$(install) run && exec .venv/bin/python manage.py demo_code

check:
	@$(install) tests && exec sh .ci/check

test:
	@$(install) tests && exec sh .ci/test

# The fault tests with their full counts, some hours; `make soak SOAK="--soak 0.01 -k fuzz"` does a hundredth of one.
soak:
	@$(install) tests && exec .venv/bin/python -m pytest tests/faults --soak 1 $(SOAK)

# JSON lines; `make bench BENCH="accept --scale 0.1"` runs one of them with its options.
bench:
	@$(install) run && exec .venv/bin/python -m benchmarks $(BENCH)

format:
	@$(install) tests && .venv/bin/ruff format --quiet . && .venv/bin/ruff check --fix --quiet .
