"use strict";
/* The snapshot as the page works with it: lanes (buffers over time), holders, events, and words for sizes and times. */
const FH = { state: { lane: null, holder: null, event: -1, from: 0, to: 1 } };

(() => {
  const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

  FH.bytes = (n) => {
    if (n < 10000) return `${n} B`;
    let unit = -1;
    while (n >= 1000 && unit < UNITS.length - 1) { n /= 1024; unit += 1; }
    return `${n.toFixed(1)} ${UNITS[unit]}`;
  };
  FH.duration = (ns) => {
    if (ns < 1e4) return `${Math.round(ns)} ns`;
    if (ns < 1e7) return `${(ns / 1e3).toFixed(1)} us`;
    if (ns < 1e10) return `${(ns / 1e6).toFixed(1)} ms`;
    return ns < 6e11 ? `${(ns / 1e9).toFixed(1)} s` : `${Math.floor(ns / 6e10)} min`;
  };
  FH.plural = (n, noun) => `${n.toLocaleString("en")} ${n === 1 ? noun : noun.endsWith("y") ? `${noun.slice(0, -1)}ies` : `${noun}s`}`;
  FH.layout = (holder) => `${holder.dtype}[${holder.shape.join(",")}]`;
  FH.named = (framework) => framework || "unknown";
  FH.how = (holder) => holder.verdict ? [holder.verdict, ...holder.reasons].join(" ") : "";

  /* An element with text: the only way in which data gets into the document, so no name is ever markup. */
  FH.element = (tag, properties = {}, ...children) => {
    const { dataset = {}, attributes = {}, ...rest } = properties;
    const node = Object.assign(document.createElement(tag), rest);
    Object.assign(node.dataset, dataset);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };

  /* The end of a place that is a path: `…/examples/tour.py:31`. */
  FH.shortSite = (site) => {
    const parts = site.split(/[\\/]/);
    return parts.length > 2 ? `…/${parts.slice(-2).join("/")}` : site;
  };

  FH.say = (text) => { document.getElementById("status").textContent = text; };

  /* Known frameworks keep their colour from page to page; others take what is left, in order. */
  const COLOURS = {
    numpy: "#5b9bd5", torch: "#f07c4a", jax: "#a98be0", tensorflow: "#f2b544", freehold: "#6fbf8b", pyarrow: "#5cc2c7",
    paddle: "#7f8fe8", mlx: "#c9a27a", cupy: "#9ccb4d", tvm_ffi: "#e58ab0", pandas: "#8ea4ff", c: "#b8bfca",
  };
  const OTHERS = ["#d6a5d6", "#b3c45a", "#7fb8a4", "#d99a6c", "#a7b4c9", "#e0828c"];
  const given = new Map();
  FH.colour = (framework) => {
    if (COLOURS[framework]) return COLOURS[framework];
    if (!given.has(framework)) given.set(framework, OTHERS[given.size % OTHERS.length]);
    return given.get(framework);
  };

  const place = (address) => { try { return BigInt(address); } catch { return -1n; } };

  FH.load = (snapshot) => {
    const hazardous = new Map();
    for (const hazard of snapshot.hazards) {
      for (const { id } of hazard.holders) hazardous.set(id, [...(hazardous.get(id) ?? []), hazard]);
    }
    const lanes = snapshot.history.lanes.map((lane) => ({ ...lane, key: `lane-${lane.lane}`, holders: [], buffer: null, id: lane.buffer }));
    const ofBuffer = new Map(lanes.filter((lane) => lane.id !== null).map((lane) => [lane.id, lane]));
    const ofLane = new Map(lanes.map((lane) => [lane.lane, lane]));
    const holders = [];
    const add = (holder, lane, closed) => {
      const full = { ...holder, lane, closed_ns: closed, hazards: hazardous.get(holder.id) ?? [] };
      full.readOnly = holder.flags.includes("read_only") || holder.flags.includes("immutable");
      lane.holders.push(full);
      holders.push(full);
    };
    for (const buffer of snapshot.buffers) {
      let lane = ofBuffer.get(buffer.id);
      if (!lane) {
        lane = { lane: null, id: buffer.id, key: `buffer-${buffer.id}`, device: buffer.device, base: buffer.base, len: buffer.len, closed_ns: null, holders: [] };
        lanes.push(lane);
        ofBuffer.set(buffer.id, lane);
      }
      lane.buffer = buffer;
      for (const holder of [buffer.owner, ...buffer.holders]) if (holder) add(holder, lane, null);
    }
    for (const holder of snapshot.history.closed) {
      const lane = ofLane.get(holder.lane);
      if (lane) add(holder, lane, holder.closed_ns);
    }
    const pinned = new Map(snapshot.findings.pinned.map((found) => [found.buffer, found]));
    const byId = new Map(holders.map((holder) => [holder.id, holder]));
    for (const lane of lanes) {
      lane.holders.sort((a, b) => a.opened_ns - b.opened_ns);
      lane.opened_ns = lane.holders.length ? lane.holders[0].opened_ns : lane.opened_ns ?? 0;
      lane.frameworks = [...new Set(lane.holders.map((holder) => FH.named(holder.framework)))];
      lane.pinned = lane.id === null ? undefined : pinned.get(lane.id);
      lane.hazards = [...new Set(lane.holders.flatMap((holder) => holder.hazards))];
      lane.name = lane.id === null ? `lane ${lane.lane}, gone` : `buffer #${lane.id}`;
      lane.site = lane.holders.find((holder) => holder.site)?.site ?? "";
      lane.kind = lane.pinned ? "pinned" : lane.frameworks.length > 1 ? "shared" : lane.holders[0]?.verdict === "copy" ? "copied" : "single";
    }
    const events = [];
    for (const holder of holders) {
      events.push({ at: holder.opened_ns, opens: true, holder });
      if (holder.closed_ns !== null) events.push({ at: holder.closed_ns, opens: false, holder });
    }
    /* At one time a holder comes before another goes: a view is often made and its source dropped at once. */
    events.sort((a, b) => a.at - b.at || (a.opens === b.opens ? 0 : a.opens ? -1 : 1));
    events.forEach((event, i) => {
      if (event.opens) event.holder.openStep = i; else event.holder.closeStep = i;
    });
    const starts = lanes.map((lane) => ({ start: place(lane.base), lane })).sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
    Object.assign(FH, { snapshot, lanes, holders, events, byId, ofBuffer, starts });
    FH.end = Math.max(snapshot.taken_ns, events.length ? events[events.length - 1].at : 0);
    FH.start = events.length ? events[0].at : 0;
  };

  /* Where a moment is on the axis, 0 to 1: by its place among the events, or by the time. */
  FH.axis = "order";
  FH.positionOfStep = (step) => (step + 0.5) / Math.max(1, FH.events.length + 0.5);
  FH.positionOfTime = (at) => (FH.end === FH.start ? 0 : (at - FH.start) / (FH.end - FH.start));
  FH.opens = (holder) => (FH.axis === "order" ? FH.positionOfStep(holder.openStep) : FH.positionOfTime(holder.opened_ns));
  FH.closes = (holder) => {
    if (holder.closed_ns === null) return 1;
    return FH.axis === "order" ? FH.positionOfStep(holder.closeStep) : FH.positionOfTime(holder.closed_ns);
  };
  FH.positionOfEvent = (i) => (FH.axis === "order" ? FH.positionOfStep(i) : FH.positionOfTime(FH.events[i].at));

  /* What a text finds: lanes by pointer or number; lanes and holders by framework, place, dtype or device. */
  FH.find = (text) => {
    const query = text.trim().toLowerCase();
    if (!query) return [];
    if (/^0x[0-9a-f]+$/.test(query)) {
      const address = BigInt(query);
      return FH.starts
        .filter(({ start, lane }) => start >= 0n && address >= start && address < start + BigInt(Math.max(1, Math.min(lane.len, Number.MAX_SAFE_INTEGER))))
        .map(({ lane }) => ({ lane, holder: lane.holders.find((holder) => holder.address === query) ?? null }))
        .sort((a, b) => (a.lane.closed_ns === null ? 0 : 1) - (b.lane.closed_ns === null ? 0 : 1));
    }
    const number = /^#?(\d+)$/.exec(query);
    if (number) {
      const lane = FH.ofBuffer.get(Number(number[1]));
      const holder = FH.byId.get(number[1]);
      return [...(lane ? [{ lane, holder: null }] : []), ...(holder ? [{ lane: holder.lane, holder }] : [])];
    }
    const has = (holder) => [holder.framework, holder.site, FH.layout(holder), holder.lane.device, FH.how(holder), ...holder.flags, ...holder.hazards.map((h) => h.code)]
      .some((part) => part.toLowerCase().includes(query));
    return FH.holders.filter(has).map((holder) => ({ lane: holder.lane, holder }));
  };
})();
