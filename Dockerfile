# One image for operator, agent and CLI: Python, the locked wheels and Syncline. Nothing else is in it: no shell, no
# package manager, no setuid file. docs/image.md says how it is built, checked and run.
#
# BASE is where Python and its libraries come from: a Debian with python3 (3.11 or newer), pip and ca-certificates. It is
# pinned, for a tag may change; where no registry answers, `make image` makes one from Debian's packages.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
FROM ${BASE} AS build
WORKDIR /src

# With build/wheelhouse in the context (`make image` fills it) nothing is asked of the network. Either way the lock's
# hashes decide what is installed, and only wheels are: nothing that was downloaded runs here but pip and setuptools.
COPY requirements.txt deploy/image/build-requirements.txt build/wheelhouse* /wheels/
RUN if ls /wheels/*.whl > /dev/null 2>&1; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels; fi; \
    export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore; \
    export PIP_REQUIRE_HASHES=1 PIP_ONLY_BINARY=:all: PIP_NO_DEPS=1; \
    python3 -m pip install --quiet --no-compile --target /image/wheels/opt/syncline/wheels -r /wheels/requirements.txt && \
    python3 -m pip install --quiet --no-compile --target /tools -r /wheels/build-requirements.txt

# Before the sources, so that a change of ours leaves the layers of Python and of the wheels as they are.
COPY deploy/image/gather.py ./
RUN python3 gather.py python

COPY pyproject.toml README.md LICENSE ./
COPY status status
COPY tunneler tunneler
COPY syncer syncer
RUN PYTHONPATH=/tools python3 -m pip wheel --quiet --disable-pip-version-check --no-index --no-deps \
        --no-build-isolation --wheel-dir /src/dist . && \
    python3 gather.py app

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Syncline" \
      org.opencontainers.image.description="Kubernetes syncer and tunnel service: operator, agent and CLI" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/python/ /
COPY --from=build /image/wheels/ /
COPY --from=build /image/app/ /
# /dev/shm can be written to even where the root file system cannot, and what is written there never reaches a disk.
ENV PATH=/usr/local/bin:/usr/bin \
    LANG=C.UTF-8 \
    HOME=/ \
    TMPDIR=/dev/shm \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["syncline"]
