# One image with all programs: hostbus, hostbus-broker, hostbus-publisher, hostbus-ingester,
# hostbus-notifier.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked \
    -p hostbus -p hostbus-broker -p hostbus-ingester -p hostbus-notifier
# Alone, so that no other part's needs make it larger.
RUN cargo build --profile light --locked -p hostbus-publisher

FROM debian:bookworm-slim
RUN groupadd --gid 10001 hostbus \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/hostbus hostbus \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/hostbus /var/lib/hostbus/credentials \
        /var/lib/hostbus/spool
COPY --from=build \
    /build/target/release/hostbus \
    /build/target/release/hostbus-broker \
    /build/target/light/hostbus-publisher \
    /build/target/release/hostbus-ingester \
    /build/target/release/hostbus-notifier \
    /usr/local/bin/
COPY docker /etc/hostbus
USER 10001:10001
WORKDIR /var/lib/hostbus
CMD ["hostbus", "--help"]
