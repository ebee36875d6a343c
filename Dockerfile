# The image of a release, made of its binaries: dist/amd64/slackir and dist/arm64/slackir, built with the feature
# `postgres`. The workflow `release` puts them there.
FROM debian:bookworm-slim
RUN apt-get update -q \
    && apt-get install -yq --no-install-recommends ca-certificates libpq5 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 65532 slackir \
    && install -d -o slackir /data
ARG TARGETARCH
COPY dist/${TARGETARCH}/slackir /usr/local/bin/slackir
USER 65532
# SQLite's file and the spool.
VOLUME /data
WORKDIR /data
EXPOSE 4000
HEALTHCHECK CMD ["slackir", "health"]
ENTRYPOINT ["slackir"]
CMD ["serve", "--host", "0.0.0.0"]
