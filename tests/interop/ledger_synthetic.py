"""A saved ledger of any size, by the schema, that no program made."""

import random

# Names that are markup, quotes, or read from right to left somewhere.
HOSTILE = ["</script><script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", "\"'`&amp;\\", "\u202egnp.exe", "<!--", "#quot;%0A|]) end"]
FRAMEWORKS = ["numpy", "torch", "jax", "tensorflow", "pyarrow"]


def snapshot(events, hostile=False, live=0.03):
    """About `events` openings and closings: buffers with an owner and a view each, `live` of them not closed."""
    chance = random.Random(events)
    frameworks = HOSTILE if hostile else FRAMEWORKS
    live = 0.5 if hostile else live
    buffers, closed, lanes = [], [], []
    at, step = 0, max(1, 10_000_000_000 // max(1, events))
    for i in range(max(1, events // 4)):
        at += chance.randint(1, 2 * step)
        size = 4 * chance.randint(1, 2 ** chance.randint(4, 25))
        base, end = hex(0x7F00_0000_0000 + i * 0x1000_0000), at + chance.randint(1, 100 * step) + 2
        names = frameworks[i % len(frameworks)], frameworks[(i * 7 + 1) % len(frameworks)]
        is_live = chance.random() < live
        site = f"{names[0] if hostile else '/srv/train.py'}:{30 + i % 17}"
        members = []
        for role, framework in zip(("owner", "holder"), names):
            source = {"parent": None, "from": None, "verdict": None, "reasons": []}
            if members:
                source = {"parent": members[0]["id"], "from": names[0], "verdict": "share", "reasons": ["RO02"] if i % 9 == 0 else []}
            members.append(
                {"id": str(2**32 + 2 * i + len(members)), "role": role, "framework": framework, "site": site, "extent_bytes": size,
                 "dtype": "f32", "shape": [size // 4], "flags": ["read_only"] if source["reasons"] else [], "opened_ns": at + len(members),
                 "thread": 1 + i % 3, "steps": [], "bytes": 0, **source}
            )
        lanes.append({"lane": i + 1, "buffer": i + 1 if is_live else None, "device": "cpu", "base": base, "len": size, "opened_ns": at, "closed_ns": None if is_live else end})
        if is_live:
            more = {"buffer": i + 1, "device": "cpu", "address": base, "extent_start": base, "padded": False, "strides": [1], "stride_unit": "elements", "mark": 1, "sync": "none"}
            owner, holder = ({**member, **more} for member in members)
            buffers.append({"id": i + 1, "generation": 1, "device": "cpu", "base": base, "len": size, "allocation_known": True, "owner": owner,
                            "holders": [holder], "used_bytes": size, "pinned_ratio": 1.0})
        else:
            closed += [{**member, "lane": i + 1, "closed_ns": end - n, "closed_by": 1} for n, member in enumerate(members)]
    closed.sort(key=lambda holder: holder["closed_ns"])
    total = {"holders": 2 * len(buffers), "buffers": len(buffers), "bytes": sum(buffer["len"] for buffer in buffers)}
    owned = {name: sum(b["len"] for b in buffers if b["owner"]["framework"] == name) for name in frameworks}
    rows = [{"framework": name, "holders": 1, "owned": 1, "owned_bytes": size, "borrowed": 0, "borrowed_bytes": 0, "copied_in": 0, "copied_out": 0} for name, size in owned.items()]
    taken = max([at, *(holder["closed_ns"] for holder in closed)]) + 1000
    hazards = [{"code": "AL01", "holders": [{"id": buffers[0]["owner"]["id"], "framework": HOSTILE[0], "site": HOSTILE[2]}], "note": HOSTILE[1], "at_ns": 5}] if hostile else []
    return {
        "schema": "freehold.ledger/2", "version": "0.1.0", "pid": 1, "taken_unix_ms": 1_760_000_000_000, "taken_ns": taken, "mark": 1,
        "stats": {"level": "sites", "opened": 2 * len(lanes), "closed": len(closed), "live": {**total, "by_device": [{"device": "cpu", **total}]},
                  "handovers": [], "copied": [], "refused": [], "hazards": [], "counters": [], "copies_dropped": 0, "hazards_dropped": 0},
        "buffers": buffers, "copies": [], "hazards": hazards,
        "findings": {"copies": [], "waits": [], "pinned": [], "lent": [], "frameworks": rows, "peak": None},
        "history": {"closed": closed, "lanes": lanes, "dropped": 0},
    }
