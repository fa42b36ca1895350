# Stage one downloads and builds wheels; stage two installs them, and holds no tools and no sources.
FROM python:3.11-slim AS build
# Of setup.py, separated by commas: kafka; models, or only openai, anthropic, google.
ARG EXTRAS=""
WORKDIR /build
COPY . .
# What is downloaded has one of the hashes in the list; nothing else is, the build's own tools included.
RUN if [ -n "$EXTRAS" ]; then lock=locks/extras.txt; else lock=locks/runtime.txt; fi \
 && pip wheel --no-cache-dir --wheel-dir /wheels --require-hashes --no-deps --only-binary :all: -r "$lock" \
 && pip install --no-cache-dir --no-index --find-links=/wheels 'setuptools>=77' \
 && pip wheel --no-cache-dir --wheel-dir /wheels --no-deps --no-build-isolation .

FROM python:3.11-slim
ARG EXTRAS=""
# PostgreSQL wants its user to have a name, so the numeric one gets it.
RUN groupadd --gid 10001 tradestream \
 && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin tradestream \
 && install --directory --owner=10001 --group=10001 --mode=0700 /data
# The version is that of the one wheel that stage one has built.
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links=/wheels "tradestream${EXTRAS:+[$EXTRAS]}"

# Without DATABASE_URL and REDIS_URL the embedded servers keep their data in /data. The dashboard listens on the
# loopback interface only, which cannot be reached from outside of the container.
ENV DATA_DIR=/data \
    HOST=0.0.0.0 \
    RAY_DASHBOARD_PORT=0 \
    PYTHONUNBUFFERED=1
VOLUME /data
WORKDIR /data
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '8000') + '/health', timeout=4)"]
# No shell and no init in between: the supervisor is PID 1, gets the signals and reaps orphans.
ENTRYPOINT ["python", "-m", "run"]
CMD ["serve"]
