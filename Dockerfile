# docker build -t openai-audit-streamer:0.1.0 .
#
# The base images are named by tag; a release names them by digest: --build-arg BUILD_IMAGE=python:3.13-slim-bookworm@sha256:…
ARG BUILD_IMAGE=docker.io/library/python:3.13-slim-bookworm
ARG RUNTIME_IMAGE=docker.io/library/python:3.13-slim-bookworm

FROM ${BUILD_IMAGE} AS build
# Of requirements/runtime.txt, which holds what every extra needs. `pyarrow` is for an archive in Parquet, and larger than all else.
ARG LEAVE_OUT="pyarrow"
ARG HATCHLING=1.27.0
# Times in the wheel are that of the commit: --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
ARG SOURCE_DATE_EPOCH=1767225600
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_ONLY_BINARY=:all:
WORKDIR /src
SHELL ["/bin/sh", "-eu", "-c"]

# Dependencies first: they change less often than the code. Every file is checked against its hash.
COPY requirements/runtime.txt requirements/
RUN awk -v names=" ${LEAVE_OUT} " '/^[a-z]/ {split($1, pin, "=="); out = index(names, " " pin[1] " ")} !out' \
      requirements/runtime.txt > requirements/image.txt && \
    python -m venv --without-pip /opt/streamer && \
    pip --python /opt/streamer/bin/python install --no-compile --no-deps --require-hashes -r requirements/image.txt

COPY pyproject.toml README.md LICENSE ./
COPY streamer streamer
RUN pip install "hatchling==${HATCHLING}" && \
    pip wheel --no-deps --no-build-isolation --wheel-dir /dist . && \
    pip --python /opt/streamer/bin/python install --no-compile --no-deps /dist/*.whl && \
    pip --python /opt/streamer/bin/python check && \
    # The root file system is read-only: bytecode is made now, and does not carry times.
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/streamer/lib && \
    install -d -m 0750 /state

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="openai-audit-streamer" \
      org.opencontainers.image.description="Streams OpenAI's organization audit log into your own hands: complete, in order, understood, provable." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/streamer /opt/streamer
COPY --from=build --chown=65532:65532 /state /var/lib/streamer
ENV PATH=/opt/streamer/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STREAMER_CONFIG_FILE=/etc/streamer/streamer.yaml

# A number, so that `runAsNonRoot` can be checked without reading /etc/passwd.
USER 65532:65532
WORKDIR /var/lib/streamer
VOLUME ["/var/lib/streamer"]
EXPOSE 9464
# Unhealthy: something is held, failing or stale, and `streamer status` says what.
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s --retries=3 CMD ["streamer", "status"]
ENTRYPOINT ["streamer"]
CMD ["run"]
