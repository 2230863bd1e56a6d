"""Overview: is it well, what comes in, what goes out, and does it keep up."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from deploy.grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    MESSAGES_PER_S,
    NUMBER,
    ORANGE,
    PURPLE,
    RATIO,
    READINGS_PER_S,
    RED,
    SECONDS,
    YELLOW,
    Query,
    Row,
    Step,
    board,
    fixed,
    number,
    series,
)  # fmt: skip

ALERTS_PER_STREAM_SECOND = (
    'sum(increase(detector_alerts_opened_total{@, kind="score"}[1d])) / sum(increase(detector_scored_event_time_seconds_total{@}[1d]))'
)
BUDGET_PERIOD_S = "max(detector_alert_budget_period_seconds{@})"
WEEK_S = 604_800
DISPOSITIONS = {"scored": GREEN, "warmup": BLUE, "late": YELLOW, "duplicate": PURPLE, "invalid": RED, "partial": GREY, "empty": ORANGE}


def _now() -> Row:
    """One number each."""
    shown = [
        number(
            "Workers ready",
            "Workers that judge what comes. The others start, restore their state, back off while brokers are unavailable, or drain.",
            NUMBER,
            Query('sum(detector_worker_state{@, state="running"})'),
            Step(0, RED),
            Step(1, GREEN),
        ),
        number(
            "Readings",
            "Readings polled per second, whatever became of them.",
            READINGS_PER_S,
            Query("sum(rate(detector_readings_polled_total{@}[$__rate_interval]))"),
        ),
        number("Streams", "Streams in memory, over all workers.", NUMBER, Query("sum(detector_streams{@})")),
        number(
            "Alerts open",
            "Alerts of all kinds that are open now.",
            NUMBER,
            Query("sum(detector_alerts_open{@})"),
            Step(0, GREEN),
            Step(1, YELLOW),
        ),
        number(
            "Budget spent",
            "Score alerts of the last day against those that alerts.budget accepts for the event time scored. True alerts count as well, "
            "so more than 100 % is no error by itself.",
            RATIO,
            Query(f"{ALERTS_PER_STREAM_SECOND} * {BUDGET_PERIOD_S}"),
            Step(0, GREEN),
            Step(1, YELLOW),
            Step(2, RED),
        ),
        number("Lag", "Messages that wait to be read, over all partitions.", NUMBER, Query("sum(detector_consumer_lag_messages{@})")),
        number(
            "Behind the clock",
            "How far the newest event time lies behind the clock, of the worker that is furthest behind. Grows while nothing comes; "
            "negative: a sensor's clock is ahead.",
            SECONDS,
            Query("max(detector_event_time_delay_seconds{@})"),
            Step(0, GREEN),
            Step(60, YELLOW),
            Step(600, RED),
        ),
        number(
            "Unaccounted",
            "Readings that got no disposition. Anything but 0 is a bug.",
            NUMBER,
            Query("sum(detector_readings_unaccounted_total{@})"),
            Step(0, GREEN),
            Step(1, RED),
        ),
    ]
    return "Now", shown


def _readings() -> Row:
    """What comes in, and what became of it."""
    shown = [
        series(
            "Readings by disposition",
            "What became of the readings: scored, warming up, late, duplicate, invalid, partial: part of a reading that is not whole yet, or empty: without any channel.",
            READINGS_PER_S,
            Query("sum by (disposition) (rate(detector_readings_total{@}[$__rate_interval]))", "{{disposition}}"),
            width=12,
            is_stacked=True,
        ),
        series(
            "Dead letters",
            "Messages that could not be read, by the kind of error. The topic of dead letters keeps each of them, with the reason.",
            MESSAGES_PER_S,
            Query("sum by (error) (rate(detector_dead_letters_total{@}[$__rate_interval]))", "{{error}}"),
            width=12,
            legend=["max"],
        ),
        series(
            "Channels that come",
            "Share of the last thousand readings, or more, that have a value of the channel. At 0 its name is wrong, or nothing sends it any more.",
            RATIO,
            Query("max by (channel) (detector_channel_present_ratio{@})", "{{channel}}"),
            width=24,
            legend=["min"],
        ),
    ]
    for name, color in DISPOSITIONS.items():
        shown[0].override_by_name(name, fixed(color))
    return "Readings", shown


def _alerts() -> Row:
    """What goes out."""
    shown = [
        series(
            "Alerts opened",
            "Alerts opened, by kind: by the score, a stream without readings (timeout), channels that are stuck or missing.",
            NUMBER,
            Query("sum by (kind) (increase(detector_alerts_opened_total{@}[$__rate_interval]))", "{{kind}}"),
            is_bars=True,
            is_stacked=True,
        ),
        series(
            "Alerts open",
            "Alerts of all kinds that are open, per worker.",
            NUMBER,
            Query("sum by (instance) (detector_alerts_open{@})", "{{instance}}"),
            is_stacked=True,
        ),
        series(
            "Alerts against the budget",
            "Score alerts per stream and week of event time, over the last day, and what alerts.budget accepts.",
            NUMBER,
            Query(f"{WEEK_S} * {ALERTS_PER_STREAM_SECOND}", "opened"),
            Query(f"{WEEK_S} / {BUDGET_PERIOD_S}", "budget"),
        ),
    ]
    return "Alerts", shown


def _pace() -> Row:
    """How far behind, and how fast."""
    shown = [
        series(
            "Lag",
            "Messages between the read position and the end, by topic.",
            NUMBER,
            Query("sum by (topic) (detector_consumer_lag_messages{@})", "{{topic}}"),
        ),
        series(
            "Behind the clock",
            "How far the newest event time lies behind the clock, per worker. Falls below 0 where a sensor's clock is ahead.",
            SECONDS,
            Query("max by (instance) (detector_event_time_delay_seconds{@})", "{{instance}}"),
        ),
        series(
            "Commit latency",
            "From the fetch of a batch until its alerts are published and its offsets committed. A batch without alerts and dead letters waits "
            "up to a quarter of a second for its commit.",
            SECONDS,
            Query(
                "histogram_quantile(0.5, sum by (le) (rate(detector_batch_commit_latency_seconds_bucket{@}[$__rate_interval])))", "median"
            ),
            Query(
                "histogram_quantile(0.99, sum by (le) (rate(detector_batch_commit_latency_seconds_bucket{@}[$__rate_interval])))", "99 %"
            ),
        ),
    ]
    return "Keeping up", shown


def overview() -> dashboard.Dashboard:
    """The page to look at first."""
    rows = [_now(), _readings(), _alerts(), _pace()]
    return board("overview", "Readings, alerts and pace of one deployment of the detector.", rows)
