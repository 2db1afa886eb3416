# Two commands matter: `make run` and `make test`. Needs make, git, Python 3.11+ with venv, ca-certificates.

.PHONY: run test check audit bench soak lock messages clean venv venv-dev
.DEFAULT_GOAL := run

PORT ?= 8000
PYTHON = .venv/bin/python
SERVED = $(PYTHON) -m chatsite.embedded run
unexport PYTHONDONTWRITEBYTECODE

run: venv
	@exec $(PYTHON) -m chatsite.dev --port $(PORT)

# make test ARGS="-k reserve"
test: venv-dev
	@exec $(SERVED) $(PYTHON) -m tests.run $(ARGS)

check: venv-dev
	@exec $(SERVED) $(PYTHON) -m tests.check

audit: venv-dev
	$(PYTHON) -m pip_audit --require-hashes --disable-pip -r requirements.txt

bench: venv-dev
	@exec $(SERVED) $(PYTHON) -m benchmarks.run $(ARGS)

soak: venv-dev
	@exec $(SERVED) $(PYTHON) -m tests.soak $(ARGS)

lock: venv-dev
	@$(PYTHON) -m pip install --quiet --require-hashes -r .ci/uv.txt
	@for name in requirements requirements-dev tests/clients/requirements; do \
	  .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 $$name.in -o $$name.txt || exit 1; done

messages:  ## take new sentences into the languages, and compile them; needs GNU gettext
	$(PYTHON) -m django makemessages --all --no-location --no-obsolete --no-wrap $(foreach it,tests .venv var static staticfiles benchmarks,--ignore=$(it))
	$(PYTHON) -m django compilemessages --ignore=.venv

clean:
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m chatsite.embedded down; fi
	rm -rf .venv var staticfiles .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis tests/clients/node/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +

venv:
	@.ci/venv requirements.txt

venv-dev:
	@.ci/venv requirements-dev.txt
