"""The results of a benchmark as tables, from its file alone."""

import json
import pathlib
import statistics
import sys
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import flow_tables  # noqa: E402, from the folder above

ABOUT = (
    *("header", "quick", "date", "commit", "uncommitted_changes", "device", "cpu", "cores", "dtype", "python"),
    *("versions", "load_average_at_start", "load_average_at_end"),
)
"""What every file says of where it was measured."""
LONG = 12
"""A table of more rows is folded."""


def shown(path: pathlib.Path) -> str:
    """Where and when it was measured, and a table of every list of records."""
    results = json.loads(path.read_text())
    found = {name: value for name, value in results.items() if name not in ABOUT}
    tables = [flow_tables.summary(results)] if path.stem == "flow_vs_solvers" else _tables("", found)
    return "\n\n".join([_origin(path.name, results.get("header", results)), *tables])


def _origin(name: str, header: dict) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in header["versions"].items())
    changes = " and changes" if header["uncommitted_changes"] else ""
    load = ", ".join(f"{load:.1f}" for load in header["load_average_at_start"])
    return (
        f"[{name}](results/{name}): measured on {header['date'][:10]} on {header['cores']} cores of {header['cpu']} "
        f"({header['device']}), commit `{header['commit'][:10]}`{changes}, Python {header['python']}, {versions}; "
        f"load at the start {load}."
    )


def _tables(title: str, found: Any) -> Iterator[str]:
    """Of each list of records, and of each record, that lies in what was found."""
    if isinstance(found, list) and found and isinstance(found[0], dict):
        yield _table(title, _by_solver(found) if "solver" in found[0] else found)
    elif isinstance(found, dict):
        deeper = {name: value for name, value in found.items() if _has_records(value)}
        plain = {name: value for name, value in found.items() if name not in deeper}
        if plain:
            yield _table(title, [plain])
        for name, value in deeper.items():
            yield from _tables(f"{title}, {name}".removeprefix(", "), value)


def _has_records(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _by_solver(rows: list[dict]) -> list[dict]:
    """One row for each problem, with the milliseconds of each solver."""
    solvers = list(dict.fromkeys(row["solver"] for row in rows))
    problems: dict[tuple, dict] = {}
    for row in rows:
        problem = {name: row[name] for name in ("epsilon", "neurons", "eta")}
        problems.setdefault(tuple(problem.values()), problem)[f"{row['solver']} (ms)"] = 1e3 * row["seconds"]
    if len(solvers) > 1:
        ours, *peers = (f"{solver} (ms)" for solver in solvers)
        for problem in problems.values():
            problem |= {peer: problem.get(peer) for peer in peers}
            problem[f"{solvers[0]} / the fastest peer"] = problem[ours] / min(filter(None, map(problem.get, peers)))
    return list(problems.values())


def _table(title: str, rows: list[dict]) -> str:
    heading = list(dict.fromkeys(_name(name, value) for row in rows for name, value in row.items()))
    cells = [{_name(name, value): _cell(value) for name, value in row.items()} for row in rows]
    lines = [heading, ["---"] * len(heading), *([row.get(name, "-") for name in heading] for row in cells)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    if len(rows) <= LONG:
        return f"{title.capitalize().replace('_', ' ')}:\n\n{table}" if title else table
    indented = "\n".join(f"    {line}" for line in table.splitlines())
    return f'??? note "{title.capitalize().replace("_", " ")}: {len(rows)} rows"\n\n{indented}'


def _name(name: str, value: Any) -> str:
    """In words. Of a record within a row the first entry is shown, of a list the median."""
    words = name.replace("_", " ").replace("tts jax", "tts_jax")
    if isinstance(value, dict):
        return f"{words} ({next(iter(value)).replace('_', ' ')})"
    return f"{words} (median)" if isinstance(value, list) else words


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return _cell(next(iter(value.values())))
    if isinstance(value, list):
        return _cell(statistics.median(value))
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if 1e3 <= value < 1e9 else f"{value:.3g}"
