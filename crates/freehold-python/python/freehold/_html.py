"""What notebooks show: one small table each, with its style inside, for light and dark pages. Nothing here runs a script."""

from html import escape

# Borders and shades of half-transparent grey suit either background; text keeps the page's own colour.
_BOX = (
    "display:inline-block;max-width:100%;overflow-x:auto;border:1px solid rgba(128,128,128,.45);border-radius:6px;"
    "padding:6px 10px;margin:2px 0;font:13px/1.45 ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"
)
_TABLE = "border-collapse:collapse;margin:4px 0 0;border:none;font:inherit"
_CELL = "text-align:left;vertical-align:top;padding:1px 14px 1px 0;border:none;background:none;white-space:pre-wrap"
_NAME = _CELL + ";opacity:.65;white-space:nowrap"
_HEAD = _CELL + ";opacity:.65;font-weight:normal;border-bottom:1px solid rgba(128,128,128,.45);white-space:nowrap"
# White on these reads well, on whatever page they lie.
_COLOURS = {"share": "#1a7f37", "copy": "#9a6700", "reject": "#cf222e"}
_MOST = 20


def _span(text, style):
    return f'<span style="{style}">{escape(str(text))}</span>'


def _pill(text, colour):
    return _span(text, f"background:{colour};color:#fff;border-radius:9px;padding:0 7px;white-space:nowrap")


def _box(title, *parts):
    return f'<div style="{_BOX}"><div style="white-space:pre-wrap">{title}</div>{"".join(parts)}</div>'


def _facts(rows):
    """Names and values, one a row; values are HTML already."""
    cells = (f'<tr><td style="{_NAME}">{escape(name)}</td><td style="{_CELL}">{value}</td></tr>' for name, value in rows)
    return f'<table style="{_TABLE}"><tbody>{"".join(cells)}</tbody></table>'


def _grid(head, rows):
    """A table with a head; cells are HTML already."""
    top = "".join(f'<th style="{_HEAD}">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>" for row in rows)
    return f'<table style="{_TABLE}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _lines(text):
    return f'<pre style="margin:0;border:none;padding:0;background:none;font:inherit">{escape(text)}</pre>'


def _bold(text):
    return f"<b>{escape(str(text))}</b>"


def text(value):
    """A card: its first line, and its facts or its other lines."""
    first, _, rest = str(value).partition("\n")
    rows = getattr(value, "rows", None)
    if rows:
        return _box(_bold(first), _facts((name, escape(fact)) for name, fact in rows))
    return _box(_lines(str(value)) if rest else escape(first))


def _holder(holder):
    shape = ",".join(map(str, holder["shape"]))
    words = [f"{holder['dtype']}[{shape}]"]
    if holder["from"]:
        words.append(f"{holder['verdict']} from {holder['from']}")
    words += holder["reasons"]
    if "read_only" in holder["flags"]:
        words.append("read-only")
    if holder["site"]:
        words.append(holder["site"])
    return f"{_bold(holder['framework'])} {escape('  '.join(words))}"


def tensor(x):
    """An fh.Tensor, with who owns and who holds its memory."""
    from . import ledger

    try:
        shape = x.shape
    except BufferError:  # given back: there is nothing to show of it
        return _box(escape(repr(x)))
    rows = [
        ("shape", escape(f"{shape}, strides {x.strides}")),
        ("dtype", escape(f"{x.dtype}, {x.nbytes} B")),
        ("device", escape(x.device)),
        ("memory", escape(f"{x.data_ptr:#x}, {'writable' if x.writable else 'read-only'}")),
    ]
    buffer = ledger.owner(x)
    if buffer:
        rows.append(("buffer", escape(f"#{buffer['id']}, {buffer['len']} B")))
        if buffer["owner"]:
            rows.append(("owned by", _holder(buffer["owner"])))
        rows += [("held by", _holder(holder)) for holder in buffer["holders"][:_MOST]]
    return _box(_bold(repr(x)), _facts(rows))


def decision(d):
    """An fh.Decision: the verdict, why, and what it costs."""
    rows = []
    if d.steps:
        rows.append(("steps" if d else "a copy takes", escape(", ".join(d.steps))))
    if d.verdict == "copy":
        rows.append(("copies", escape(f"{d.bytes_copied} B, allocates {d.bytes_allocated} B")))
        rows.append(("engine", escape(d.engine or "")))
    if d:
        rows.append(("result", escape(f"{d.dtype}, {d.device}, {d.layout}, {'writable' if d.writable else 'read-only'}")))
    if d.sync != "none":
        rows.append(("waits for", escape(d.sync)))
    rows += [("reason", f"{_bold(code)} {escape(why)}") for code, why in d.reasons]
    rows += [("do", f"<code style='background:none;color:inherit'>{escape(fix)}</code>") for fix in d.fixes]
    return _box(f"{_pill(d.verdict, _COLOURS[d.verdict])} {escape(repr(d))}", _facts(rows))


def targets(found):
    """fh.targets(): a row a framework."""
    head = ("framework", "version", "taken from", "given to", "default", "strides", "read-only", "devices")
    rows = []
    for entry in found.values():
        version = escape(entry.version or "?") if entry.installed else _span("not installed", "opacity:.65")
        read_only = "" if entry.read_only is None else "yes" if entry.read_only else "no"
        rows.append(
            (
                _bold(entry.name),
                version + (" (imported)" if entry.imported else ""),
                "yes" if entry.installed else "",
                "yes" if entry.target else "",
                escape(entry.default_dtype or ""),
                escape(entry.strides or ""),
                read_only,
                escape(", ".join(entry.devices)),
            )
        )
    return _box(_bold("fh.targets()"), _grid(head, rows))


def ledger(book):
    """fh.ledger: what is live, and what was copied."""
    stats = book.stats()
    live = sorted(book.live(), key=lambda buffer: buffer["len"], reverse=True)
    parts = []
    if live:
        rows = []
        for buffer in live[:_MOST]:
            owner = _holder(buffer["owner"]) if buffer["owner"] else ""
            holders = "<br>".join(_holder(holder) for holder in buffer["holders"][:_MOST])
            rows.append((f"#{buffer['id']}", escape(buffer["device"]), f"{buffer['len']} B", owner, holders))
        parts.append(_grid(("buffer", "device", "size", "owned by", "held by"), rows))
        if len(live) > _MOST:
            parts.append(f"<div>and {len(live) - _MOST} smaller</div>")
    totals = [
        (f"{row['from']} → {row['to']}", f"{_pill(row['verdict'], _COLOURS[row['verdict']])} {row['count']}")
        for row in stats["handovers"]
    ]
    totals += [
        (f"{row['from']} → {row['to']}", f"{_pill('reject', _COLOURS['reject'])} {row['count']} {escape(row['code'])}")
        for row in stats["refused"]
    ]
    if totals:
        parts.append(_facts(totals[:_MOST]))
    copied = sum(row["bytes"] for row in stats["copied"])
    return _box(f"{_bold(repr(book))} {copied} B copied so far", *parts)
