"""Every metric of the project, each with a sentence for the operator."""

from prometheus_client import Counter, Gauge, Histogram

# --- every service ---------------------------------------------------------------------------------------------------
WAKEUPS = Counter(
    "darkroom_wakeups_total",
    "Why a replica looked for work: start, listen (its stream opened), event, due (delayed work), sweep, or poll (it "
    "had no permit to read a stream, see DARKROOM_STREAM_READERS).",
    ["consumer", "cause"],
)
STREAM_EVENTS = Counter("darkroom_stream_events_total", "Change events read from MongoDB.", ["consumer"])
STREAM_RESUMES = Counter(
    "darkroom_stream_resumes_total", "Change streams taken up again where they broke off.", ["consumer"]
)
STREAM_RELISTS = Counter(
    "darkroom_stream_relists_total",
    "Change streams opened anew because their history was gone; the documents were looked through instead.",
    ["consumer"],
)
SWEEP_FINDS = Counter(
    "darkroom_sweep_finds_total",
    "Sweeps that found work no event had announced: rising steadily means that change streams do not get through.",
    ["consumer"],
)
STREAM_LAG_SECONDS = Gauge(
    "darkroom_stream_lag_seconds",
    "Age of the newest change event when it was read: this machine's time less the event's cluster time.",
    ["consumer"],
)

# --- leases -----------------------------------------------------------------------------------------------------------
IN_FLIGHT = Gauge("darkroom_in_flight", "Pieces of work that this replica holds now.", ["consumer"])
LEASES_EXPIRED = Counter(
    "darkroom_leases_expired_total", "Leases that ended without a renewal and were taken back.", ["collection"]
)
LEASES_RELEASED = Counter(
    "darkroom_leases_released_total", "Work given back unfinished because the replica stopped.", ["collection"]
)

# --- watcher ---------------------------------------------------------------------------------------------------------
IMAGES_CLAIMED = Counter("darkroom_images_claimed_total", "Images claimed by this watcher.")
IMAGES_FINISHED = Counter(
    "darkroom_images_finished_total",
    "Images that reached a final state here, by state and reason code.",
    ["state", "code"],
)
IMAGES_RETRIED = Counter("darkroom_images_retried_total", "Images put off to be tried again, by reason code.", ["code"])
IMAGES_POSTPONED = Counter(
    "darkroom_images_postponed_total",
    "Images put off untried, since their host had its share and others waited behind them.",
)
IMAGES_FENCED = Counter(
    "darkroom_images_fenced_total",
    "Results thrown away because the lease had passed to another or the image was cancelled.",
)
IMAGES_REUSED = Counter(
    "darkroom_images_reused_total",
    "Images that got the output of an earlier one of the same bytes and options, so that nothing was compressed.",
)
BYTES_IN = Counter("darkroom_image_bytes_in_total", "Bytes of source images downloaded.")
BYTES_OUT = Counter("darkroom_image_bytes_out_total", "Bytes of compressed images stored.")
IMAGE_OUTPUTS = Counter(
    "darkroom_image_outputs_total",
    "Completed images by the formats of source and output, and whether the source was kept, had more frames, or was "
    "smaller than its output.",
    ["source_format", "format", "kept", "animated", "larger_than_source"],
)
IMAGE_MEGAPIXELS = Histogram(
    "darkroom_image_source_megapixels",
    "Size of the sources of completed images.",
    buckets=(0.01, 0.1, 0.3, 1, 2, 4, 8, 12, 24, 50),
)
IMAGE_QUALITY = Histogram(
    "darkroom_image_quality",
    "Quality that completed images were made with; none where the source was kept or the format loses nothing.",
    ["format"],
    buckets=(10, 20, 30, 40, 50, 60, 70, 80, 90, 95),
)
STAGE_SECONDS = Histogram(
    "darkroom_image_stage_seconds",
    "Time one image spends in a stage: queue (from the upload to the claim), download, compress (waiting for a codec "
    "process included; decode and encode are its parts in there), store.",
    ["stage"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600, 3600),
)
REQUESTS_CLOSED = Counter(
    "darkroom_requests_closed_total", "Requests brought to a final state here, by status.", ["status"]
)

# --- notifier --------------------------------------------------------------------------------------------------------
REQUESTS_ANNOUNCED = Counter(
    "darkroom_requests_announced_total", "Closed requests whose deliveries were made here, by status.", ["status"]
)
WEBHOOK_ATTEMPTS = Counter(
    "darkroom_webhook_attempts_total",
    "Delivery attempts by outcome (delivered, retry, failed, fenced: the lease had passed to another) and reason code.",
    ["outcome", "code"],
)
WEBHOOK_SECONDS = Histogram(
    "darkroom_webhook_seconds",
    "Time one delivery attempt takes, from resolving the name to the end of the answer.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30),
)
WEBHOOK_AGE_SECONDS = Histogram(
    "darkroom_webhook_age_seconds",
    "Time from the end of a request to its delivered webhook, retries included.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 1800, 7200, 43200, 259200),
)

WEBHOOKS_FAILED = Counter(
    "darkroom_webhooks_failed_total",
    "Deliveries given up, by reason: the code of the last attempt (or of their silent host's), endpoint_disabled or "
    "endpoint_deleted.",
    ["reason"],
)
WEBHOOKS_PUT_OFF = Counter(
    "darkroom_webhooks_put_off_total",
    "Deliveries put off untried, at no charge: silent (their host does not answer), throttled (the endpoint's rate "
    "limit, or it asked for time) or moved (to the new host of their endpoint, at once).",
    ["cause"],
)
WEBHOOK_HOSTS_SILENT = Gauge(
    "darkroom_webhook_hosts_silent", "Hosts that did not answer so often that this notifier leaves them alone for now."
)
ENDPOINTS_FAILING = Counter(
    "darkroom_endpoints_failing_total",
    "Endpoints that have only failed for half of DARKROOM_WEBHOOK_FAILING_SECONDS: after the other half they are "
    "disabled.",
)
ENDPOINTS_DISABLED = Counter(
    "darkroom_endpoints_disabled_total",
    "Endpoints disabled here, by reason: gone (410), asked (by webhook-delivery: disable) or failing.",
    ["reason"],
)

# --- ingest ----------------------------------------------------------------------------------------------------------
UPLOADS = Counter(
    "darkroom_uploads_total", "Uploads by outcome: accepted, error, or the code of the problem they got.", ["outcome"]
)
UPLOAD_IMAGES = Counter("darkroom_upload_images_total", "Images in accepted uploads.")
UPLOAD_BYTES = Counter("darkroom_upload_bytes_total", "Bytes of accepted CSV files.")
HTTP_SECONDS = Histogram(
    "darkroom_http_seconds",
    "Time one HTTP request takes until its answer begins, the body's arrival included, by route, method and status.",
    ["route", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
