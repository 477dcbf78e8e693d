# One image for every process; docker-compose.yml and Procfile say which command makes which.
#
# The base is pinned to a full version. To pin the very bytes, add the digest that
#   docker buildx imagetools inspect python:3.13.14-slim-bookworm
# prints: ARG BASE=python:3.13.14-slim-bookworm@sha256:...
ARG BASE=python:3.13.14-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# The dependencies change less often than the code, so they have a layer of their own.
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv --without-pip /opt/tenant-mirror \
    && python -m pip --python /opt/tenant-mirror/bin/python install \
        --require-hashes --only-binary :all: -r requirements.lock

# The build backend is taken from the lock too, with its dependencies by name: a missing one would
# fail here, for want of a hash. None of it gets into the runtime stage.
RUN awk '/^[a-z]/ {keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/} keep' \
        requirements-dev.lock > backend.lock \
    && python -m pip install --require-hashes --only-binary :all: -r backend.lock

COPY pyproject.toml README.md LICENSE NOTICE ./
COPY migrations migrations
COPY models models
COPY sandbox sandbox
COPY worker worker
RUN python -m hatchling build --target wheel --directory /wheel \
    && python -m pip --python /opt/tenant-mirror/bin/python install --no-deps --no-index /wheel/*.whl \
    && python -m compileall -q /opt/tenant-mirror/lib

FROM ${BASE}
# A passwd entry, because libpq and Python ask for the name and the home of the uid they run as.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp \
    --shell /usr/sbin/nologin tenant-mirror
COPY --from=build /opt/tenant-mirror /opt/tenant-mirror
ENV PATH=/opt/tenant-mirror/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Nothing is written but to /tmp, so the root file system can be mounted read-only.
WORKDIR /tmp
USER 10001:10001
# Of "tenant-mirror web"; no other process listens.
EXPOSE 8420
# Health checks differ from process to process: see docker-compose.yml.
CMD ["tenant-mirror", "--help"]
