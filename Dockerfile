# syntax=docker/dockerfile:1
# One image for every program: docker-compose.yml says which `brewair …` command a container runs.

FROM python:3.11-slim AS build
# Rust's cargo, for the compiled core of the gateway; it stays in this stage.
RUN apt-get update && apt-get install --yes --no-install-recommends cargo && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Wheels of all dependencies and of brewair itself; the build hook fetches the front-end packages.
COPY pyproject.toml README.md LICENSE hatch_build.py package.json package-lock.json ./
COPY domain domain
COPY gateway gateway
COPY portal portal
COPY device_sim device_sim
COPY cli cli
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[postgres]'

FROM python:3.11-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels 'brewair[postgres]'
# A number, so that an orchestrator can see that it is not root. The folder belongs to it, and so does a new volume there.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/brewair --shell /usr/sbin/nologin brewair \
    && install -d -o 10001 -g 10001 -m 750 /var/lib/brewair
USER 10001:10001
WORKDIR /var/lib/brewair
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BREWAIR_DATA_DIR=/var/lib/brewair
VOLUME /var/lib/brewair
EXPOSE 8000
ENTRYPOINT ["brewair"]
CMD ["--help"]
