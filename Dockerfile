# syntax=docker/dockerfile:1
# Two images, one file:  docker build --target operator .   and   docker build --target trainer .
# Dependencies are a layer of their own below our code, so that a code change ships kilobytes.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

ARG UV=uv==0.13.9

# --- our code, installed; nothing else of this stage reaches an image -----------------------------------------------
FROM ${BASE_IMAGE} AS code
# The other arguments are set only where the build runs behind a proxy with a certificate authority of its own.
ARG UV PIP_CERT
RUN python3 -m venv /opt/build && /opt/build/bin/python -m pip install --no-cache-dir ${UV} hatchling==1.33.0
COPY pyproject.toml README.md LICENSE* /source/
COPY crds /source/crds
COPY operator /source/operator
COPY trainer /source/trainer
RUN /opt/build/bin/uv pip install --offline --no-deps --no-build-isolation --python /opt/build --compile-bytecode \
    --target /opt/finetune/code /source \
    && rm -rf /opt/finetune/code/bin /opt/finetune/code/.lock

# --- what both images share -----------------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS runtime
# The file system is read-only at run time: everything that a library wants to write goes below /tmp.
ENV PATH=/opt/finetune/dependencies/bin:$PATH \
    PYTHONPATH=/opt/finetune/code \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=finetune \
    XDG_CACHE_HOME=/tmp/.cache
WORKDIR /tmp

# --- operator -------------------------------------------------------------------------------------------------------
FROM runtime AS operator-dependencies
ARG UV PIP_CERT SSL_CERT_FILE UV_SYSTEM_CERTS
COPY requirements/operator.txt /opt/finetune/requirements.txt
RUN --mount=type=cache,target=/var/cache/uv \
    export UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy \
    && python3 -m venv /opt/build && /opt/build/bin/python -m pip install --no-cache-dir ${UV} \
    && /opt/build/bin/uv venv --python "$(command -v python3)" /opt/finetune/dependencies \
    && /opt/build/bin/uv pip install --python /opt/finetune/dependencies --require-hashes --compile-bytecode \
       -r /opt/finetune/requirements.txt \
    && rm -rf /opt/build

FROM operator-dependencies AS operator
COPY --from=code /opt/finetune/code /opt/finetune/code
USER 65532:65532
ENTRYPOINT ["python", "-m", "finetune_operator"]

# --- trainer -----------------------------------------------------------------------------------------------------
FROM runtime AS trainer-dependencies
# The caches of torch, triton, transformers and matplotlib follow HOME, but not all of them know it.
ENV HF_HOME=/tmp/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor \
    TRITON_CACHE_DIR=/tmp/triton \
    TOKENIZERS_PARALLELISM=false \
    DO_NOT_TRACK=1
ARG UV PIP_CERT SSL_CERT_FILE UV_SYSTEM_CERTS
COPY requirements/trainer.txt /opt/finetune/requirements.txt
RUN --mount=type=cache,target=/var/cache/uv \
    export UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy \
    && python3 -m venv /opt/build && /opt/build/bin/python -m pip install --no-cache-dir ${UV} \
    && /opt/build/bin/uv venv --python "$(command -v python3)" /opt/finetune/dependencies \
    && /opt/build/bin/uv pip install --python /opt/finetune/dependencies --require-hashes --compile-bytecode \
       -r /opt/finetune/requirements.txt \
    && rm -rf /opt/build

FROM trainer-dependencies AS trainer
COPY --from=code /opt/finetune/code /opt/finetune/code
USER 65532:65532
ENTRYPOINT ["python", "-m", "finetune_trainer.agent"]
