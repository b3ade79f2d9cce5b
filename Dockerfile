# qamx from this checkout; docs/cluster.md has the commands.
#
#   docker build -t qamx .                                              for a CPU
#   docker build -t qamx:cuda12 --build-arg EXTRAS="--extra cuda12" .   for NVIDIA GPUs

FROM python:3.11-slim-bookworm

# EGL and OSMesa, with which videos are rendered without a display.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libgl1 libosmesa6 \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir uv==0.13.9

ENV UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    PATH=/opt/venv/bin:$PATH

# The extras of pyproject.toml, as options of `uv sync`.
ARG EXTRAS=""

WORKDIR /opt/qamx
# Packages first: a change of the sources does not install them again.
COPY pyproject.toml uv.lock README.md LICENSE ./
# hadolint ignore=SC2086
RUN uv sync --locked --no-install-project $EXTRAS
COPY experiments experiments
COPY qamx qamx
# hadolint ignore=SC2086
RUN uv sync --locked --no-editable $EXTRAS

# The driver is the host's (`--gpus all`); a user without a home has its caches in /tmp.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics \
    HOME=/tmp
WORKDIR /work
ENTRYPOINT ["qamx"]
CMD ["--help"]
