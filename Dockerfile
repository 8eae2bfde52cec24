# One image for web, worker and one-off commands.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 VAR_DIR=/srv/backhaul/var
RUN useradd --create-home --home-dir /srv/backhaul --uid 10001 backhaul && \
    install --directory --owner backhaul --group backhaul /srv/backhaul/var /srv/backhaul/var/high-water
WORKDIR /srv/backhaul/app

COPY requirements.txt .
RUN pip install --disable-pip-version-check --requirement requirements.txt

COPY manage.py ./
COPY dashboard dashboard
COPY messaging messaging
COPY templates templates
COPY static static

USER backhaul
# Collecting asks for settings but touches neither database nor Catena.
RUN SECRET_KEY=only-while-building DATABASE_URL=postgresql://unused/unused python manage.py collectstatic --noinput

EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "1", \
     "--blocking-threads", "8", "--blocking-threads-idle-timeout", "600", "--backpressure", "1024", \
     "--workers-kill-timeout", "10", "--no-ws", "--no-access-log", "dashboard.wsgi:application"]
