"""Shapes in which people keep recordings: the smallest file of each, and what is read of it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

NAN = float("nan")
MINUTE = 60_000_000
START = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z


@dataclass(frozen=True)
class Shape:
    """A file, and what is to be read.

    value      per reading, in order, its channels' values
    time_us    of the readings; by default minutes from START
    streams    of the readings, by name
    rejected   rows that are no reading
    left       columns that are no channel
    lines      lines that are no row
    options    of `FileInput`
    """

    name: str
    content: str | bytes
    channels: tuple[str, ...]
    value: Sequence[tuple[float, ...]]
    time_us: list[int] | None = None
    streams: list[str] | None = None
    rejected: int = 0
    left: tuple[str, ...] = ()
    lines: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    file: str = "plant.csv"
    order: str = "in order"


def rows(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def minutes(count: int) -> list[int]:
    return [START + minute * MINUTE for minute in range(count)]


T = ["2026-03-02T00:00:00", "2026-03-02T00:01:00", "2026-03-02T00:02:00", "2026-03-02T00:03:00"]
ONE = [(1.5,), (2.5,), (3.5,)]
TWO = [(1.5, 10.0), (2.5, 20.0), (3.5, 30.0)]


def of_times(name: str, times: list[str], time_us: list[int] | None = None, header: str = "time", **more: Any) -> Shape:
    """A file of one channel whose times are written so."""
    lines = [f"{header};a", *(f"{time};{place + 1.5}" for place, time in enumerate(times))]
    return Shape(name, rows(*lines), ("a",), [(place + 1.5,) for place in range(len(times))], time_us or minutes(len(times)), **more)


HOUR = 60 * MINUTE
DAY = 24 * HOUR

LAYOUTS = [
    Shape("commas", rows("time,a,b", f"{T[0]},1.5,10", f"{T[1]},2.5,20", f"{T[2]},3.5,30"), ("a", "b"), TWO),
    Shape("semicolons and decimal commas", rows("time;a;b", f"{T[0]};1,5;10", f"{T[1]};2,5;20", f"{T[2]};3,5;30"), ("a", "b"), TWO),
    Shape("tabs", rows("time\ta\tb", f"{T[0]}\t1.5\t10", f"{T[1]}\t2.5\t20", f"{T[2]}\t3.5\t30"), ("a", "b"), TWO, file="plant.tsv"),
    Shape("bars", rows("time|a|b", f"{T[0]}|1.5|10", f"{T[1]}|2.5|20", f"{T[2]}|3.5|30"), ("a", "b"), TWO),
    Shape(
        "runs of blanks", rows("time    a   b", f"{T[0]}  1.5 10", f"{T[1]}  2.5 20", f"{T[2]}   3.5  30"), ("a", "b"), TWO, file="p.txt"
    ),
    Shape(
        "quoted decimal commas",
        rows('"time","a","b"', f'"{T[0]}","1,5","10"', f'"{T[1]}","2,5","20"', f'"{T[2]}","3,5","30"'),
        ("a", "b"),
        TWO,
    ),
    Shape(
        "thousands",
        rows("time;a;b", f"{T[0]};1.234,5;1", f"{T[1]};2.345,5;2"),
        ("a", "b"),
        [(1234.5, 1), (2345.5, 2)],
    ),
    Shape("thousands in English", rows("time\ta", f"{T[0]}\t1,234.5", f"{T[1]}\t2,345"), ("a",), [(1234.5,), (2345.0,)]),
    Shape(
        "the decimal mark by option",
        rows("time\ta", f"{T[0]}\t1,234", f"{T[1]}\t2,345"),
        ("a",),
        [(1.234,), (2.345,)],
        options={"decimal": ","},
    ),
    Shape("byte order mark", "\ufeff" + rows("time,a", f"{T[0]},1.5", f"{T[1]},2.5"), ("a",), ONE[:2]),
    Shape("UTF-16", rows("time,a °C", f"{T[0]},1.5", f"{T[1]},2.5").encode("utf-16"), ("a °C",), ONE[:2]),
    Shape("UTF-16 without a mark", rows("time,a °C", f"{T[0]},1.5", f"{T[1]},2.5").encode("utf-16-le"), ("a °C",), ONE[:2]),
    Shape("Latin-1", rows("time,wind (°)", f"{T[0]},1.5", f"{T[1]},2.5").encode("latin-1"), ("wind (°)",), ONE[:2]),
    Shape("Windows-1252", rows("time,Preis (€)", f"{T[0]},1.5", f"{T[1]},2.5").encode("cp1252"), ("Preis (€)",), ONE[:2]),
    Shape("line ends of Windows", rows("time,a", f"{T[0]},1.5", f"{T[1]},2.5").replace("\n", "\r\n"), ("a",), ONE[:2]),
    Shape("gzip", gzip.compress(rows("time,a", f"{T[0]},1.5", f"{T[1]},2.5").encode()), ("a",), ONE[:2], file="plant.csv.gz"),
    Shape("two columns of one name", rows("time,temp,temp", f"{T[0]},1.5,10", f"{T[1]},2.5,20"), ("temp", "temp_2"), TWO[:2]),
    Shape("a column without a name", rows("time,a,", f"{T[0]},1.5,10", f"{T[1]},2.5,20"), ("a", "column3"), TWO[:2]),
    Shape("no header", rows(f"{T[0]},1.5,10", f"{T[1]},2.5,20", f"{T[2]},3.5,30"), ("column2", "column3"), TWO),
    Shape("names in a comment", rows("# time a b", f"{T[0]} 1.5 10", f"{T[1]} 2.5 20"), ("a", "b"), TWO[:2], file="p.dat"),
    Shape(
        "a row of units",
        rows("time,a,b", ",°C,bar", *(f"2026-03-02T00:0{k}:00,{k + 1.5},{10 * k + 10}" for k in range(4))),
        ("a", "b"),
        [(k + 1.5, 10.0 * k + 10) for k in range(4)],
        lines={"units": 1},
    ),
    Shape(
        "title lines",
        rows("Report: Boiler 3", "Exported: 2026-03-02", "", "time,a,b", f"{T[0]},1.5,10", f"{T[1]},2.5,20", f"{T[2]},3.5,30"),
        ("a", "b"),
        TWO,
        lines={"title": 2},
    ),
    Shape(
        "comments among rows",
        rows("time,a", f"{T[0]},1.5", "# pump changed", f"{T[1]},2.5", "#end"),
        ("a",),
        ONE[:2],
        lines={"comment": 2},
    ),
    Shape("Excel's sep=", rows("sep=;", "time;a", f"{T[0]};1,5", f"{T[1]};2,5"), ("a",), ONE[:2]),
    Shape("blanks around names", rows(" time , a ", f"{T[0]}, 1.5 ", f"{T[1]}, 2.5"), ("a",), ONE[:2]),
    Shape(
        "names of rows, as R writes them", rows('"time","a"', f'"1","{T[0]}",1.5', f'"2","{T[1]}",2.5'), ("a",), ONE[:2], left=("column1",)
    ),
    Shape(
        "a footer, and a row that is cut short",
        rows("time,a,b", f"{T[0]},1.5,10", f"{T[1]},2.5,20", f"{T[2]},3.5,30", f"{T[3]},9", "Total: 3"),
        ("a", "b"),
        TWO,
        rejected=2,
    ),
    Shape("blank rows", rows("time;a;b", f"{T[0]};1,5;10", ";;", "", f"{T[1]};2,5;20", ";;"), ("a", "b"), TWO[:2], lines={"blank": 2}),
]
TIMES = [
    of_times("ISO 8601", ["2026-03-02T00:00:00", "2026-03-02T00:01:00"]),
    of_times("ISO 8601 with offsets", ["2026-03-02T01:00:00+01:00", "2026-03-02T00:01:00Z"]),
    of_times(
        "a blank in place of the T, and fractions",
        ["2026-03-02 00:00:00.250", "2026-03-02 00:01:00.250"],
        [START + 250_000, START + MINUTE + 250_000],
    ),
    of_times("without seconds", ["2026-03-02 00:00", "2026-03-02 00:01"]),
    of_times("dd/mm/yyyy, told by a day above 12", ["13/03/2026 00:00", "13/03/2026 00:01"], [START + 11 * DAY, START + 11 * DAY + MINUTE]),
    of_times(
        "dd/mm/yyyy, told by the order of the rows", ["01/02/2026 23:59", "02/02/2026 00:00"], [START - 28 * DAY - MINUTE, START - 28 * DAY]
    ),
    of_times(
        "mm/dd/yyyy with AM and PM",
        ["03/02/2026 12:00:00 AM", "03/02/2026 12:01:00 AM", "03/02/2026 01:00:00 PM"],
        [START, START + MINUTE, START + 13 * HOUR],
    ),
    of_times("dd.mm.yyyy", ["02.03.2026 00:00", "02.03.2026 00:01"]),
    of_times("dd-mm-yyyy", ["02-03-2026 00:00", "02-03-2026 00:01"]),
    of_times("names of months", ["2-Mar-26 0:00", "2-Mar-26 0:01"]),
    of_times("as mails write it", ["Mon, 02 Mar 2026 00:00:00 GMT", "Mon, 02 Mar 2026 00:01:00 GMT"]),
    of_times("month first by option", ["03/02/2026 0:00", "03/02/2026 0:01"], options={"time_format": "month_first"}),
    of_times("a format of strptime", ["2|3|2026 at 0.00", "2|3|2026 at 0.01"], options={"time_format": "%d|%m|%Y at %H.%M"}),
    of_times("yyyymmddhhmm", ["202603020000", "202603020001"]),
    of_times("yyyymmddThhmmssZ", ["20260302T000000Z", "20260302T000100Z"]),
    of_times("days", ["2026-03-02", "2026-03-03"], [START, START + DAY], header="date"),
    of_times("seconds since 1970", ["1772409600", "1772409660"]),
    of_times("milliseconds since 1970", ["1772409600000", "1772409660000"], header="timestamp"),
    of_times("microseconds since 1970", ["1772409600000000", "1772409660000000"]),
    of_times("nanoseconds since 1970", ["1772409600000000000", "1772409660000000000"]),
    of_times("seconds with a fraction", ["1772409600.5", "1772409660.5"], [START + 500_000, START + MINUTE + 500_000]),
    of_times("seconds in the notation of science", ["1.7724096e9", "1.77240966e9"]),
    of_times("Excel's serial days", ["46083.000000", "46083.000694", "46083.001389"]),
    of_times("elapsed seconds by the name", ["0", "60", "120"], [0, MINUTE, 2 * MINUTE], header="elapsed_s"),
    of_times("elapsed seconds by option", ["0", "60"], [0, MINUTE], options={"time_format": "elapsed_s"}),
    of_times(
        "a zone, and the hour that comes twice",
        ["2026-10-25 01:59", "2026-10-25 02:00", "2026-10-25 02:59", "2026-10-25 02:00", "2026-10-25 02:59", "2026-10-25 03:00"],
        [1_792_886_340_000_000 + minute * MINUTE for minute in (0, 1, 60, 61, 120, 121)],
        options={"zone": "Europe/Berlin"},
    ),
    Shape("date and clock apart", rows("Date,Time,a", "2026-03-02,00:00:00,1.5", "2026-03-02,00:01:00,2.5"), ("a",), ONE[:2]),
    Shape(
        "date and clock apart, with dots", rows("Datum;Uhrzeit;a", "02.03.2026;00.00.00;1,5", "02.03.2026;00.01.00;2,5"), ("a",), ONE[:2]
    ),
    Shape(
        "date and clock by option",
        rows("d,c,a", "2026-03-02,00:00,1.5", "2026-03-02,00:01,2.5"),
        ("a",),
        ONE[:2],
        options={"time": ("d", "c")},
    ),
    Shape(
        "year, month, day, hour",
        rows("No,year,month,day,hour,a", "1,2026,3,2,0,1.5", "2,2026,3,2,1,2.5"),
        ("a",),
        ONE[:2],
        [START, START + HOUR],
        left=("No",),
    ),
    Shape(
        "date, and an hour as a number", rows("date,hour,a", "2026-03-02,0,1.5", "2026-03-02,1,2.5"), ("a",), ONE[:2], [START, START + HOUR]
    ),
    Shape("no time at all", rows("a,b", "1.5,10", "2.5,20", "3.5,30"), ("a", "b"), TWO, [0, MINUTE, 2 * MINUTE], options={"every_s": 60.0}),
    Shape("newest first", rows("time,a", f"{T[2]},3.5", f"{T[1]},2.5", f"{T[0]},1.5"), ("a",), ONE, order="newest first"),
    Shape("unordered", rows("time,a", f"{T[1]},2.5", f"{T[2]},3.5", f"{T[0]},1.5"), ("a",), ONE, order="unordered"),
    Shape("a time that is none", rows("time,a", f"{T[0]},1.5", "noon,9", f"{T[1]},2.5"), ("a",), ONE[:2], rejected=1),
    Shape(
        "a year with a digit wrong",
        rows("time,a", f"{T[0]},1.5", "2165-03-02T00:01:00,9", f"{T[1]},2.5", f"{T[2]},3.5"),
        ("a",),
        ONE,
        rejected=1,
    ),
    Shape(
        "a clock that was not set",
        rows("time,a", "1970-01-01T00:00:07,9", f"{T[0]},1.5", f"{T[1]},2.5", f"{T[2]},3.5"),
        ("a",),
        ONE,
        rejected=1,
    ),
    Shape(
        "a counter that could be seconds since 1970",
        rows("energy,time,a", f"1500000000,{T[0]},1.5", f"1500000001,{T[1]},2.5"),
        ("energy", "a"),
        [(1.5e9, 1.5), (1500000001, 2.5)],
    ),
]


def of_streams(name: str, header: str, first: str, second: str, **more: Any) -> Shape:
    """A file of two streams, named in one column."""
    lines = [f"time,{header},a", *(f"{T[k]},{stream},{k + 1.5}" for k in range(3) for stream in (first, second))]
    more.setdefault("streams", [first, second] * 3)
    return Shape(
        name,
        rows(*lines),
        ("a",),
        [(k + 1.5,) for k in range(3) for _ in range(2)],
        [START + k * MINUTE for k in range(3) for _ in range(2)],
        **more,
    )


STREAMS = [
    of_streams("machine", "machine", "m1", "m2"),
    of_streams("machineID of integers", "machineID", "1", "2"),
    of_streams("deviceId", "deviceId", "x-1", "x-2"),
    of_streams("Device Name", "Device Name", "pump 1", "pump 2"),
    of_streams("sensor.id", "sensor.id", "7", "8"),
    of_streams("Series", "Series", "Probe-1", "Probe-2"),
    of_streams("entity_id", "entity_id", "sensor.a", "sensor.b"),
    of_streams("a column that only its values give away", "wohin", "links", "rechts"),
    Shape(
        "two columns together",
        rows("time,plant,pump,a", *(f"{T[k]},{plant},{pump},1.5" for k in range(2) for plant in ("p1", "p2") for pump in ("x", "y"))),
        ("a",),
        [(1.5,)] * 8,
        [START + k * MINUTE for k in range(2) for _ in range(4)],
        streams=["x/p1", "y/p1", "x/p2", "y/p2"] * 2,
    ),
    Shape(
        "a row that names no stream",
        rows("time,machine,a", f"{T[0]},m,1.5", f"{T[1]},,9", f"{T[2]},m,2.5", f"{T[3]},m,3.5"),
        ("a",),
        ONE,
        [START, START + 2 * MINUTE, START + 3 * MINUTE],
        streams=["m"] * 3,
        rejected=1,
    ),
    Shape(
        "one value per row",
        rows("time,metric,value", *(f"{T[k]},{metric},{k + number}" for k in range(2) for metric, number in (("temp", 1.5), ("rpm", 10)))),
        ("temp", "rpm"),
        [(1.5, 10), (2.5, 11)],
    ),
]
VALUES = [
    Shape("text among numbers", rows("time,a", f"{T[0]},1.5", f"{T[1]},unavailable", f"{T[2]},3.5"), ("a",), [(1.5,), (NAN,), (3.5,)]),
    Shape("a question mark", rows("time,a", f"{T[0]},1.5", f"{T[1]},?", f"{T[2]},3.5"), ("a",), [(1.5,), (NAN,), (3.5,)]),
    Shape("No Data", rows("time,a", f"{T[0]},1.5", f"{T[1]},No Data", f"{T[2]},3.5"), ("a",), [(1.5,), (NAN,), (3.5,)]),
    Shape(
        "empty, NaN and inf",
        rows("time,a,b", f"{T[0]},1.5,", f"{T[1]},NaN,2", f"{T[2]},inf,3"),
        ("a", "b"),
        [(1.5, NAN), (NAN, 2), (NAN, 3)],
    ),
    Shape(
        "sentinels by option",
        rows("time,a", f"{T[0]},1.5", f"{T[1]},-200", f"{T[2]},3.5"),
        ("a",),
        [(1.5,), (NAN,), (3.5,)],
        options={"missing_values": (-200.0,)},
    ),
    Shape("units behind numbers", rows("time,a", f"{T[0]},1.5 °C", f"{T[1]},2.5 °C"), ("a",), ONE[:2]),
    Shape("true and false", rows("time,a,on", f"{T[0]},1.5,true", f"{T[1]},2.5,false"), ("a", "on"), [(1.5, 1), (2.5, 0)]),
    Shape("on and off", rows("time,a,door", f"{T[0]},1.5,on", f"{T[1]},2.5,off"), ("a", "door"), [(1.5, 1), (2.5, 0)]),
    Shape("text is no channel", rows("time,a,status", f"{T[0]},1.5,OK", f"{T[1]},2.5,WARN"), ("a",), ONE[:2], left=("status",)),
    Shape("a counter of rows", rows('"","date","a"', f'"1","{T[0]}",1.5', f'"2","{T[1]}",2.5'), ("a",), ONE[:2], left=("column1",)),
    Shape("an empty column", rows("time,a,b", f"{T[0]},1.5,", f"{T[1]},2.5,"), ("a",), ONE[:2], left=("b",)),
    Shape("another time", rows("time,a,received_at", f"{T[0]},1.5,{T[1]}", f"{T[1]},2.5,{T[2]}"), ("a",), ONE[:2], left=("received_at",)),
    Shape(
        "channels by option",
        rows("time,a,b", f"{T[0]},1.5,10", f"{T[1]},2.5,20"),
        ("b", "a"),
        [(10, 1.5), (20, 2.5)],
        options={"channels": ("b", "a")},
    ),
]
JSON = [
    Shape(
        "JSON lines",
        rows('{"time":"2026-03-02T00:00:00Z","a":1.5}', "", '{"time":"2026-03-02T00:01:00Z","a":2.5}'),
        ("a",),
        ONE[:2],
        file="p.jsonl",
        lines={"blank": 1},
    ),
    Shape(
        "nested JSON",
        rows('{"ts":1772409600,"data":{"a":1.5,"b":10}}', '{"ts":1772409660,"data":{"a":2.5,"b":20}}'),
        ("data.a", "data.b"),
        TWO[:2],
        file="p.jsonl",
    ),
    Shape(
        "JSON with a bad line",
        rows('{"ts":1772409600,"a":1.5}', '{"ts":', '{"ts":1772409660,"a":2.5}'),
        ("a",),
        ONE[:2],
        file="p.jsonl",
        rejected=1,
    ),
    Shape("one JSON array", '[{"ts":1772409600,"a":1.5},\n {"ts":1772409660,"a":2.5}]', ("a",), ONE[:2], file="p.json"),
    Shape(
        "text and truth in JSON",
        rows('{"ts":1772409600,"a":"1.5","on":true}', '{"ts":1772409660,"a":"unknown","on":false}'),
        ("a", "on"),
        [(1.5, 1), (NAN, 0)],
        file="p.jsonl",
    ),
    Shape(
        "JSON newest first",
        rows('{"ts":1772409660,"a":2.5}', '{"ts":1772409600,"a":1.5}'),
        ("a",),
        ONE[:2],
        file="p.jsonl",
        order="newest first",
    ),
]
OTHERS = [
    Shape(
        "a header longer than its rows, decimal commas",
        rows("time|a|b|", f"{T[0]}|1,5|2,5", f"{T[1]}|2,5|3,5"),
        ("a", "b"),
        [(1.5, 2.5), (2.5, 3.5)],
    ),
    Shape(
        "years",
        rows("year,a", "2001,1.5", "2002,2.5", "2003,3.5"),
        ("a",),
        ONE,
        time_us=[978307200000000, 1009843200000000, 1041379200000000],
    ),
    Shape(
        "years and quarters",
        rows("Year,Quarter,a", "2001,1,1.5", "2001,2,2.5", "2001,3,3.5", "2002,1,4.5", "2003,1,5.5"),
        ("a",),
        [*ONE, (4.5,), (5.5,)],
        time_us=[978307200000000, 986083200000000, 993945600000000, 1009843200000000, 1041379200000000],
    ),
    Shape(
        "quarters as text",
        rows("period,a", "2001Q1,1.5", "2001Q2,2.5", "2001Q3,3.5"),
        ("a",),
        ONE,
        time_us=[978307200000000, 986083200000000, 993945600000000],
    ),
    Shape(
        "months as text",
        rows("month,a", "2001-01,1.5", "2001-04,2.5", "2001-07,3.5"),
        ("a",),
        ONE,
        time_us=[978307200000000, 986083200000000, 993945600000000],
    ),
    Shape(
        "names of months with dashes",
        rows("DATE,a", "Jan-1-2001,1.5", "Apr-1-2001,2.5", "Jul-1-2001,3.5"),
        ("a",),
        ONE,
        time_us=[978307200000000, 986083200000000, 993945600000000],
    ),
    Shape("labels of a benchmark", rows("time,a,anomaly", f"{T[0]},1.5,0", f"{T[1]},2.5,1"), ("a",), ONE[:2], left=("anomaly",)),
]
SHAPES = [*LAYOUTS, *TIMES, *STREAMS, *VALUES, *JSON, *OTHERS]
