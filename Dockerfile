# The image with SQLite: one static binary on nothing else.
#
#   docker build -t slackir .                              from the sources
#   docker build -t slackir --build-arg BINARY=release .   from dist/amd64/slackir and dist/arm64/slackir, static binaries
#                                                          of the target *-unknown-linux-musl
#
# Dockerfile.postgres is the image with PostgreSQL as well.
ARG BINARY=sources

FROM node:22-alpine AS page
WORKDIR /assets
COPY assets/package.json assets/package-lock.json ./
RUN npm ci --ignore-scripts

# Rust's target on Alpine is musl, and its binaries are static.
FROM rust:1-alpine AS sources
# hadolint ignore=DL3018
RUN apk add --no-cache build-base
WORKDIR /slackir
COPY . .
# The metrics and --version name it: --build-arg COMMIT=$(git rev-parse HEAD).
ARG COMMIT=unknown
ENV SLACKIR_COMMIT=$COMMIT
# build.rs puts the page's client into the program.
COPY --from=page /assets/node_modules assets/node_modules
RUN cargo build --release --locked --bin slackir --features acme,load,otel \
    && install -D target/release/slackir /out/slackir

FROM scratch AS release
ARG TARGETARCH
COPY dist/${TARGETARCH}/slackir /out/slackir

# What an empty image lacks: certificates for https to a backend or an issuer of tokens, and folders to write to.
FROM alpine:3.22 AS files
# hadolint ignore=DL3018
RUN apk add --no-cache ca-certificates && install -d -o 65532 -g 65532 /empty/data

FROM ${BINARY} AS binary

FROM scratch
COPY --from=files /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=files --chown=65532:65532 /empty/data /data
COPY --from=binary /out/slackir /slackir
USER 65532:65532
# SQLite's file and the spool.
VOLUME /data
WORKDIR /data
ENV SLACKIR_HOST=0.0.0.0
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/slackir", "health"]
ENTRYPOINT ["/slackir"]
CMD ["serve"]
