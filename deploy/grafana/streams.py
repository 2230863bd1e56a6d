"""Streams: observed and expected values, and the score, of the streams under `metrics.watch`."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from deploy.grafana.panels import BLUE, GREEN, NUMBER, RED, YELLOW, Query, band, board, chosen, fixed, series, some, states

OF_STREAM = '{@, stream="$stream"}'
OF_CHANNEL = '{@, stream="$stream", channel="$channel"}'


def streams() -> dashboard.Dashboard:
    """One watched stream at a time, and the scores of all."""
    score = series(
        "Score and threshold",
        "The score, larger is stranger, and the threshold beyond which it would open an alert. Evidence gathers over several readings "
        "and lowers the threshold; the threshold is missing where nothing can open: in the warm-up, and at the beginning of an alert.",
        NUMBER,
        Query(f"max by (stream) (detector_stream_score{OF_STREAM})", "score"),
        Query(f"max by (stream) (detector_stream_threshold{OF_STREAM})", "threshold"),
        width=24,
        height=9,
    )
    score.override_by_name("threshold", fixed(RED))
    alert = states(
        "Alert",
        "Whether an alert of kind score is open for the stream.",
        Query(f"max by (stream) (detector_stream_alert_open{OF_STREAM})", "{{stream}}"),
        [("none", GREEN), ("open", RED)],
        height=4,
    )
    channel = series(
        "$channel",
        "Observed and expected value in engineering units, and the band in which 99 % of normal readings lie.",
        NUMBER,
        Query(f"max by (stream) (detector_stream_expected{OF_CHANNEL})", "expected"),
        Query(f"max by (stream) (detector_stream_observed{OF_CHANNEL})", "observed"),
        Query(f"max by (stream) (detector_stream_expected_low{OF_CHANNEL})", "low"),
        Query(f"max by (stream) (detector_stream_expected_high{OF_CHANNEL})", "high"),
        width=12,
    )
    for name, properties in (("expected", fixed(YELLOW)), ("observed", fixed(BLUE)), ("low", band(YELLOW)), ("high", band(YELLOW, "low"))):
        channel.override_by_name(name, properties)
    channel.repeat("channel").repeat_direction("h").max_per_row(2)
    everyone = series(
        "Scores of all watched streams",
        "The latest score of every stream under metrics.watch.",
        NUMBER,
        Query("max by (stream) (detector_stream_score{@})", "{{stream}}"),
        width=24,
        legend=["max"],
    )
    return board(
        "streams",
        "The streams that are listed under metrics.watch in the configuration.",
        [("$stream", [score, alert]), ("Channels of $stream", [channel]), ("All watched streams", [everyone])],
        chosen("stream", "Stream", 'label_values(detector_stream_score{job="$job"}, stream)', "One of the streams under metrics.watch"),
        some(
            "channel", "Channel", 'label_values(detector_stream_observed{job="$job", stream="$stream"}, channel)', "Channels of the stream"
        ),
    )
