# make run     install what is missing, build, and start a site with this host on it
# make test    everything CI checks
# make bench   the pipeline benchmark
#
# make run ARGS='--listen 127.0.0.1:1884' hands flags to `hostbus up`.

.PHONY: run test bench

run:
	scripts/install redis-server
	cargo build --release --locked -p hostbus
	exec target/release/hostbus up $(ARGS)

test:
	scripts/install iproute2 redis-server mosquitto mosquitto-clients openssl procps python3-venv systemd util-linux
	scripts/test

bench:
	scripts/install redis-server
	cargo run --release --locked -p hostbus-bench -- pipeline
