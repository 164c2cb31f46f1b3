# mmbeit3 at the tested versions, for the CPU or for CUDA:
#   docker build -t mmbeit3 .
#   docker build -t mmbeit3:cuda --build-arg DEVICE=cuda .
#   docker run --rm -v "$PWD:/data" mmbeit3 infer hf://OWNER/NAME photos --out-dir found
# With a GPU: docker run --gpus all --shm-size 8g ... Files in /data belong to user 1000.

# Of the Python that requirements/constraints.txt was tested with.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

# cpu or cuda. PyPI's torch for Linux brings CUDA along; the same version +cpu of this
# index is smaller, and pip takes it for the newer one.
ARG DEVICE=cpu
ARG CPU_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=report,export,tiles

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# What OpenCV loads from the system.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 mmbeit3 \
    && mkdir /data \
    && chown mmbeit3:mmbeit3 /data

WORKDIR /opt/mmbeit3
COPY requirements/constraints.txt requirements/
# torch first, and alone, so that a change of the code does not fetch it anew.
RUN case "${DEVICE}" in \
        cpu) index=(--extra-index-url "${CPU_INDEX}") ;; \
        cuda) index=() ;; \
        *) echo "DEVICE is '${DEVICE}'; expected cpu or cuda" >&2; exit 1 ;; \
    esac \
    && grep -E '^(torch|torchvision)==' requirements/constraints.txt > torch.txt \
    && pip install --no-cache-dir "${index[@]}" -c requirements/constraints.txt -r torch.txt \
    && rm torch.txt

COPY setup.py pyproject.toml README.md LICENSE MANIFEST.in model-index.yml ./
COPY configs configs
COPY tools tools
COPY mmbeit3 mmbeit3
RUN pip install --no-cache-dir -c requirements/constraints.txt ".[${EXTRAS}]"

USER 1000
WORKDIR /data
# Downloaded weights: mount a volume there to keep them.
ENV HF_HOME=/home/mmbeit3/.cache/huggingface \
    TORCH_HOME=/home/mmbeit3/.cache/torch
ENTRYPOINT ["mmbeit3"]
CMD ["doctor"]
