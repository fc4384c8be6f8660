# Built from the wheel in dist/ (pip wheel --no-deps -w dist .); at run time it needs no network.
FROM python:3.11-slim AS build
COPY dist/dpsynth-0.1.0-py3-none-any.whl /tmp/
RUN python -m venv /opt/dpsynth \
    && /opt/dpsynth/bin/pip install --no-cache-dir "/tmp/dpsynth-0.1.0-py3-none-any.whl[office,sql,survival]"

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin dpsynth \
    && mkdir /data \
    && chown dpsynth:dpsynth /data
COPY --from=build /opt/dpsynth /opt/dpsynth
ENV PATH=/opt/dpsynth/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    HOME=/tmp
USER 10001
WORKDIR /data
ENTRYPOINT ["dpsynth"]
CMD ["--help"]
