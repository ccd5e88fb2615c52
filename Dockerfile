# Serves a model over HTTP on CPUs (docs/serve.md). The model folder is mounted at /model, and
# R1OMNI_API_KEY has to be set. Decoders come with PyAV; FFmpeg's programs are not needed.
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

WORKDIR /opt/r1omni
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
# Of one version pip prefers the build that says +cpu, which brings no CUDA.
RUN pip install --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt '.[serve]'

RUN useradd --create-home --uid 10001 r1omni
USER r1omni
WORKDIR /home/r1omni

EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "r1omni", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--model", "/model"]
