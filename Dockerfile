# One image with all four programs; the command says which. Built by docker, podman or buildah:
#
#   docker build -t pagoda:dev .
#
# Both bases must be of the same Debian release, because the programs are linked to its libraries.
ARG BASE=debian:bookworm-slim
ARG RUST_IMAGE=rust:1-bookworm

FROM ${RUST_IMAGE} AS builder
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake g++ libopenblas-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p pagoda -p user-tower-svc -p item-tower-svc -p index-svc \
    && mkdir /out \
    && for program in pagoda user-tower-svc item-tower-svc index-svc; do install -s "target/release/$program" /out/; done

FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgomp1 libopenblas0-pthread libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /var/lib/pagoda --create-home --shell /usr/sbin/nologin pagoda
COPY --from=builder /out/ /usr/local/bin/
USER 10001:10001
WORKDIR /var/lib/pagoda
# Recall, refreshes, index; then the metrics of each.
EXPOSE 7101 7102 7103 9101 9102 9103
CMD ["pagoda", "--help"]
