# hopwatch in one image; docker-compose.yml and docs/deploy.md say how it is run.
#   docker build -t hopwatch:0.1.0 .
ARG BASE=debian:12.15-slim

FROM ${BASE} AS build
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates cargo-web gcc libc6-dev python3-venv rustc-web
WORKDIR /src
COPY requirements.lock scripts/lock.py ./
# What builds it comes from the lock too, with its hashes.
RUN python3 lock.py --lines requirements.lock maturin > build.lock \
    && python3 -m venv /build \
    && /build/bin/pip install --quiet --require-hashes --no-deps -r build.lock
# The packet path first, beside empty packages: a change of Python alone compiles nothing again.
COPY pyproject.toml README.md LICENSE hopwatch_wire.pyi ./
COPY wire wire
RUN mkdir hopwatch agent collectors detectors alerts dashboards \
    && /build/bin/maturin build --quiet --release --locked --strip --out /tmp/empty
COPY . .
RUN /build/bin/maturin build --quiet --release --locked --strip --out dist
# Only what the program needs of the lock, in the lock's versions and with its hashes.
RUN sed -n 's/^\([a-zA-Z0-9._-]*==[^ ]*\).*/\1/p' requirements.lock > versions \
    && /build/bin/pip install --quiet --dry-run --ignore-installed --constraint versions --report report.json dist/*.whl \
    && python3 lock.py --lines requirements.lock --report report.json > run.lock \
    && python3 -m venv --without-pip /opt/hopwatch \
    && /build/bin/pip --python /opt/hopwatch/bin/python install --quiet --require-hashes --no-deps -r run.lock \
    && /build/bin/pip --python /opt/hopwatch/bin/python install --quiet --no-deps dist/*.whl
# Files bear the right to open a packet socket, and Docker gives it to no one else: a copy of the interpreter has it, for the agent alone.
RUN cp --dereference /opt/hopwatch/bin/python3 /opt/hopwatch/bin/python-capture \
    && sed '1s/.*/#!\/opt\/hopwatch\/bin\/python-capture/' /opt/hopwatch/bin/hopwatch > /opt/hopwatch/bin/hopwatch-capture \
    && chmod 755 /opt/hopwatch/bin/hopwatch-capture

FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates libpcap0.8 python3-minimal libpython3-stdlib \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log \
    # Nobody becomes somebody else in here.
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && groupadd --gid 10001 hopwatch \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/hopwatch --create-home --shell /usr/sbin/nologin hopwatch \
    # A volume begins as the folder it is mounted over: its owner is the program's.
    && install -d -m 700 -o 10001 -g 10001 /var/lib/hopwatch/data /var/lib/hopwatch/key
COPY --from=build /opt/hopwatch /opt/hopwatch
COPY deploy/container/healthy.py /opt/hopwatch/healthy.py
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libcap2-bin \
    && setcap cap_net_raw=ep /opt/hopwatch/bin/python-capture \
    && apt-get purge -y --auto-remove libcap2-bin \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log
ENV PATH=/opt/hopwatch/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    HOPWATCH_METRICS=127.0.0.1:9464
USER 10001:10001
WORKDIR /var/lib/hopwatch
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "/opt/hopwatch/healthy.py"]
ENTRYPOINT ["hopwatch"]
CMD ["--help"]
