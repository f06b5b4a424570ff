# make run    build and start a site with this host on it; installs what is missing
# make test   everything CI checks
# make bench  the pipeline benchmark

SHELL := /bin/bash
HOSTBUS := target/release/hostbus

.PHONY: run test lint unit bench install-run install-test build venv

run: install-run
	cargo build --release --locked -p hostbus
	exec $(HOSTBUS) up $(ARGS)

test: install-test
	scripts/test

bench: install-run
	cargo run --release --locked -p hostbus-bench -- pipeline

install-run:
	scripts/install redis-server

install-test:
	scripts/install redis-server mosquitto mosquitto-clients python3-venv
