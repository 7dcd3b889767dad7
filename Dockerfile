# Evergallery's server. For a machine without a GPU:
#   docker build -t evergallery .
# With an NVIDIA GPU (driver 580 or newer, and the NVIDIA container toolkit):
#   docker build -t evergallery:cuda --build-arg TORCH=cu130 .
#   docker run --gpus all …
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG TORCH=cpu
ARG EXTRAS=pretrained,report,serve,parquet,heif,postgres,qdrant,onnx
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src ./src
# PyTorch's own wheels for this machine; everything else as the tests last passed with it.
RUN uv venv /opt/evergallery \
    && uv pip install --python /opt/evergallery/bin/python --torch-backend="${TORCH}" --compile-bytecode \
        --constraint constraints.txt ".[${EXTRAS}]"

FROM python:${PYTHON}-slim
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin evergallery \
    && install -d -o evergallery -g evergallery /data /photos
COPY --from=build /opt/evergallery /opt/evergallery
ENV PATH=/opt/evergallery/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    EVERGALLERY_WORKSPACE=/data/shop
USER 10001
WORKDIR /home/evergallery
VOLUME /data
EXPOSE 8765
# /healthz says that the process lives; /readyz, for balancers, that the gallery is open and the model loaded.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
ENTRYPOINT ["evergallery"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8765"]
