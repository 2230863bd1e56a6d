"""Operations: every worker by itself, for whoever runs it."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from deploy.grafana.panels import (
    BLUE,
    BYTES,
    BYTES_PER_S,
    CORES,
    GREEN,
    GREY,
    MESSAGES_PER_S,
    NUMBER,
    PER_S,
    RED,
    SECONDS,
    YELLOW,
    Query,
    Row,
    board,
    names,
    series,
    states,
)  # fmt: skip

STATES = (
    ("stopped", GREY), ("running", GREEN), ("restoring", BLUE), ("starting", BLUE), ("backing_off", RED), ("draining", YELLOW),
)  # fmt: skip
STATE = " + ".join(
    f'{value} * max by (instance) (detector_worker_state{{@, state="{state}"}})' for value, (state, _) in enumerate(STATES) if value
)


def rate(metric: str, by: str = "instance") -> str:
    """Increase per second of a counter."""
    return f"sum by ({by}) (rate({metric}{{@}}[$__rate_interval]))"


def each(metric: str) -> Query:
    """A gauge, per worker."""
    return Query(f"sum by (instance) ({metric}{{@}})", "{{instance}}")


def _workers() -> Row:
    """What runs, in which state, with which share of the work."""
    shown = [
        states("State", "The state of each worker.", Query(STATE, "{{instance}}"), STATES, width=12, height=7),
        names(
            "What runs",
            "Workers by version, model and fingerprint. More than one of them for long means that some workers judge by another model.",
            Query(
                "count by (version, group, model, fingerprint) (detector_build_info{@})",
                "{{group}}: {{version}}, {{model}} {{fingerprint}}",
            ),
            width=12,
            height=7,
        ),
        series("Partitions", "Input partitions that each worker reads.", NUMBER, each("detector_partitions_assigned")),
        series("Streams in memory", "Streams whose state each worker keeps.", NUMBER, each("detector_streams")),
        series("Lag", "Messages between the read position and the end, per worker.", NUMBER, each("detector_consumer_lag_messages")),
    ]
    return "Workers", shown


def _time() -> Row:
    """Where the time goes."""
    shown = [
        series(
            "Time per stage",
            "Seconds per second that the workers spend in each stage: poll (waiting included), decode, detect, encode; commit runs beside them.",
            SECONDS,
            Query(rate("detector_stage_duration_seconds_sum", "stage"), "{{stage}}"),
            is_stacked=True,
        ),
        series(
            "Slowest batches per stage",
            "99 % of the batches spend less than this in a stage.",
            SECONDS,
            Query(
                "histogram_quantile(0.99, sum by (le, stage) (rate(detector_stage_duration_seconds_bucket{@}[$__rate_interval])))",
                "{{stage}}",
            ),
        ),
        series("Batches", "Batches judged per second.", PER_S, Query(rate("detector_batch_readings_count"), "{{instance}}"), width=4),
        series(
            "Readings per batch",
            "Mean size of a batch. At service.batch_messages_max the worker has more to do than it can.",
            NUMBER,
            Query(f"{rate('detector_batch_readings_sum')} / {rate('detector_batch_readings_count')}", "{{instance}}"),
            width=4,
        ),
    ]
    return "Time", shown


def _log() -> Row:
    """Commits, and unavailable brokers."""
    shown = [
        series(
            "Commits",
            "Commits per second; one commit may hold several batches.",
            PER_S,
            Query(rate("detector_commits_total"), "{{instance}}"),
        ),
        series(
            "Aborted commits and unanswered calls",
            "Commits after which all state was restored, and calls that the brokers could not answer.",
            PER_S,
            Query(rate("detector_commits_aborted_total"), "aborted {{instance}}"),
            Query(rate("detector_log_unavailable_errors_total"), "unanswered {{instance}}"),
        ),
        series(
            "Pause",
            "Length of the pause before the next attempt, while the brokers are unavailable.",
            SECONDS,
            each("detector_backoff_seconds"),
        ),
    ]
    return "The log", shown


def _state() -> Row:
    """How state is saved and restored."""
    shown = [
        series(
            "Oldest unsaved change",
            "Age of the oldest unsaved change of the state, and the limit beyond which it is overdue: a restart would have to judge all since then again.",
            SECONDS,
            each("detector_state_unsaved_age_seconds"),
            Query("3 * max(detector_state_flush_interval_seconds{@}) + 10", "overdue"),
        ),
        series("Unsaved rows", "Rows of state that changed since they were saved.", NUMBER, each("detector_state_rows_unsaved")),
        series("Rows saved", "Rows of state saved per second.", PER_S, Query(rate("detector_state_rows_saved_total"), "{{instance}}")),
        series(
            "State written",
            "Bytes of state written per second, before compression.",
            BYTES_PER_S,
            Query(rate("detector_state_written_bytes_total"), "{{instance}}"),
        ),
        series(
            "Latest restore",
            "How long it took from the assignment of partitions until they were live.",
            SECONDS,
            each("detector_restore_duration_seconds"),
        ),
        series(
            "Messages replayed and missed",
            "Messages read again to bring the state up to date; and messages that were missed, by reason: removed from the log before they were "
            "judged or saved in the state (retention), or skipped by the configuration (auto_offset_reset).",
            MESSAGES_PER_S,
            Query(rate("detector_messages_replayed_total"), "replayed {{instance}}"),
            Query(rate("detector_messages_missed_total", "instance, reason"), "missed: {{reason}} {{instance}}"),
        ),
        series(
            "Logs that changed",
            "Partitions that started cold within a day because their log changed, by reason; and input topics that are missing now.",
            NUMBER,
            Query("sum by (instance, reason) (increase(detector_log_changes_total{@}[1d]))", "{{reason}} {{instance}}"),
            Query("sum by (instance) (detector_input_topics_missing{@})", "missing {{instance}}"),
        ),
    ]
    return "State", shown


def _process() -> Row:
    """What each process needs."""
    shown = [
        series("Memory", "Resident memory of each process.", BYTES, each("process_resident_memory_bytes"), width=6),
        series("CPU", "Cores that each process keeps busy.", CORES, Query(rate("process_cpu_seconds_total"), "{{instance}}"), width=6),
        series(
            "Open files",
            "File descriptors in use; brokers and clients of /metrics need one each.",
            NUMBER,
            each("process_open_fds"),
            width=6,
        ),
        series(
            "Age",
            "Time since the process started. It falls to 0 at a restart.",
            SECONDS,
            Query("time() - max by (instance) (process_start_time_seconds{@})", "{{instance}}"),
            width=6,
        ),
    ]
    return "Processes", shown


def operations() -> dashboard.Dashboard:
    """Workers side by side: where their time goes, what they commit and save, what they need."""
    rows = [_workers(), _time(), _log(), _state(), _process()]
    return board("operations", "Every worker of one deployment of the detector by itself.", rows)
