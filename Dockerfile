# docker build -t accum . && docker run --rm -p 127.0.0.1:8888:8888 accum
FROM python:3.11-slim
RUN useradd --create-home student && mkdir /course && chown student /course
USER student
WORKDIR /course
# An index of PyTorch's CPU builds, as its installation page names it, saves gigabytes: --build-arg TORCH_INDEX=...
ARG TORCH_INDEX=""
ENV ACCUM_VENV=/home/student/venv PIP_EXTRA_INDEX_URL=$TORCH_INDEX PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1
COPY --chown=student . .
RUN python start.py set-up lab
EXPOSE 8888
ENV LAB_FLAGS="--ip=0.0.0.0 --no-browser"
CMD ["python", "start.py", "lab"]
