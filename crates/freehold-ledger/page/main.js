/* Brings the parts together: selection, search, keys, the findings at the top, and the buttons. */
(() => {
  const { element } = FH;
  const get = (id) => document.getElementById(id);
  FH.load(JSON.parse(get("ledger").textContent));
  const { snapshot } = FH;
  const { stats, findings } = snapshot;

  const summary = () => {
    const { live } = stats;
    const peak = findings.peak && findings.peak.bytes > live.bytes ? `, ${FH.bytes(findings.peak.bytes)} at the peak` : "";
    const when = new Date(snapshot.taken_unix_ms);
    get("summary").replaceChildren(
      element("b", {}, `${FH.plural(live.buffers, "buffer")}, ${FH.bytes(live.bytes)} live`),
      `${peak} · ${FH.plural(live.holders, "holder")} · process ${snapshot.pid} · level ${stats.level} · ${Number.isNaN(when.getTime()) ? "" : when.toLocaleString()}`);
    document.title = `Freehold ledger: ${FH.plural(live.buffers, "buffer")}, ${FH.bytes(live.bytes)}`;
    const used = [...new Set(FH.lanes.flatMap((lane) => lane.frameworks))].slice(0, 16);
    get("frameworks").replaceChildren(...used.map((framework) => {
      const key = element("i");
      key.style.background = FH.colour(framework);
      return element("li", {}, key, framework);
    }), ...(FH.holders.some((holder) => holder.readOnly) ? [element("li", {}, "hatched: read-only")] : []), ...(snapshot.hazards.length ? [element("li", {}, "red outline: hazard")] : []));
  };

  /* What to look at first, in four cards at most. */
  const cards = (tables) => {
    const first = (site) => (site ? element("span", { className: "site", title: site }, FH.shortSite(site)) : null);
    const made = [];
    const add = (kind, title, text, site, tab, go) => {
      const card = element("button", { type: "button", className: `card ${kind}` }, element("b", {}, title), element("span", {}, text), first(site));
      card.addEventListener("click", () => { tables.open(tab); if (go?.lane) FH.select(go.lane, go.holder ?? null); });
      made.push(card);
    };
    const one = (id) => { const holder = FH.byId.get(id); return holder ? { lane: holder.lane, holder } : null; };
    const hazard = snapshot.hazards[snapshot.hazards.length - 1];
    if (hazard) {
      const go = hazard.holders.map((holder) => one(holder.id)).find(Boolean);
      add("bad", snapshot.hazards.length > 1 ? `${snapshot.hazards.length} hazards, the last ${hazard.code}` : `Hazard ${hazard.code}`, hazard.note, hazard.holders.find((holder) => holder.site)?.site, "hazards", go);
    }
    const avoidable = findings.copies.filter((copy) => copy.bytes >= 1 << 20);
    if (avoidable.length) {
      const sum = avoidable.reduce((total, copy) => total + copy.bytes, 0);
      add("warn", `${FH.bytes(sum)} copied that could be shared`, `most of it ${FH.bytes(avoidable[0].bytes)}: ${avoidable[0].fix}`, avoidable[0].site, "copies", null);
    }
    const suspects = findings.lent.filter((lent) => lent.state === "unconsumed" || lent.since_mark > 1 || lent.count > 2).sort((a, b) => b.bytes - a.bytes);
    if (suspects.length) {
      const [most] = suspects;
      const what = most.state === "unconsumed" ? `${FH.plural(most.count, "capsule")} not consumed` : `${FH.plural(most.count, "view")} still held by ${FH.named(most.to)}`;
      add("warn", what, `${FH.bytes(most.bytes)} in ${FH.plural(most.buffers, "buffer")}${most.since_mark ? `, ${most.since_mark} since the last mark` : ""}`, most.site, most.state === "unconsumed" ? "unconsumed" : "lent", one(most.holder));
    }
    if (findings.pinned.length) {
      const [most] = findings.pinned;
      const site = most.holders.find((holder) => holder.site)?.site;
      add("warn", `${FH.bytes(most.used_bytes)} pin ${FH.bytes(most.len)}`, `${FH.plural(findings.pinned.length, "large buffer")} kept by small views; a copy frees ${FH.bytes(most.frees)}`, site, "pinned", { lane: FH.ofBuffer.get(most.buffer), holder: FH.byId.get(most.holders[0]?.id) });
    }
    if (!made.length) made.push(element("p", { className: "card good" }, element("b", {}, "Nothing stands out"), element("span", {}, "no hazard, no large copy, no small view of a large buffer")));
    get("findings").replaceChildren(...made);
  };

  let parts = null;
  let waiting = false;
  FH.redraw = () => {
    if (waiting || !parts) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      parts.lanes.choose();
      parts.timeline.draw();
      parts.lanes.draw();
    });
  };

  FH.select = (lane, holder = null, scroll = false) => {
    Object.assign(FH.state, { lane, holder });
    FH.panel();
    parts.tables.refresh();
    parts.lanes.choose();
    if (lane) {
      parts.lanes.reveal(lane);
      FH.say(`${lane.name}, ${FH.bytes(lane.len)}, ${lane.device}. ${holder ? FH.describe(holder) : lane.holders.slice(0, 4).map(FH.describe).join(". ")}`);
      if (scroll) get("lanes-section").scrollIntoView({ block: "nearest" });
    }
    parts.timeline.draw();
    parts.lanes.draw();
  };

  FH.step = (by) => {
    if (!FH.events.length) return;
    const at = FH.state.event < 0 ? (by > 0 ? 0 : FH.events.length - 1) : Math.max(0, Math.min(FH.events.length - 1, FH.state.event + by));
    FH.state.event = at;
    const { holder, opens } = FH.events[at];
    const position = FH.positionOfEvent(at);
    const span = FH.state.to - FH.state.from;
    if (position < FH.state.from || position > FH.state.to) FH.showRange(Math.max(0, position - span / 2), Math.min(1, position + span / 2));
    FH.select(holder.lane, holder);
    FH.say(`Event ${at + 1} of ${FH.events.length}: ${opens ? FH.describe(holder) : `${FH.named(holder.framework)} lets go of ${holder.lane.name}`}`);
  };

  const search = () => {
    const input = get("search");
    const result = get("search-result");
    let last = null;
    get("search-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!last || last.text !== input.value) last = { text: input.value, found: FH.find(input.value), at: -1 };
      if (!last.found.length) {
        result.textContent = input.value.trim() ? "nothing" : "";
        FH.say(input.value.trim() ? `Nothing found for ${input.value}` : "");
        return;
      }
      last.at = (last.at + 1) % last.found.length;
      result.textContent = `${last.at + 1} of ${last.found.length}`;
      const { lane, holder } = last.found[last.at];
      FH.select(lane, holder);
    });
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input[type=search], textarea");
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        input.focus();
        input.select();
      } else if (event.key === "Escape") {
        input.value = "";
        result.textContent = "";
        FH.state.event = -1;
        FH.select(null);
        FH.say("Selection cleared");
        if (typing) get("lanes").focus();
      }
    });
  };

  const buttons = () => {
    const held = (id) => get(id)?.textContent ?? null;
    const save = (name, bytes, type) => {
      const link = element("a", { href: URL.createObjectURL(new Blob([bytes], { type })), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    };
    const offer = (id, source, how, action) => {
      const button = get(id);
      const text = held(source);
      button.disabled = text === null;
      if (text === null) button.title = `Too large for a page: save the ledger as ${how}`;
      else button.addEventListener("click", () => action(text, button));
    };
    offer("to-pickle", "pickle", "ledger.pickle", (text) => {
      save("ledger.pickle", Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), "application/octet-stream");
      FH.say("Saved ledger.pickle; drop it on pytorch.org/memory_viz");
    });
    offer("to-mermaid", "mermaid", "ledger.mmd", async (quoted) => {
      const text = JSON.parse(quoted);
      try {
        await navigator.clipboard.writeText(text);
        FH.say("Mermaid text copied");
        get("to-mermaid").textContent = "Copied";
        setTimeout(() => { get("to-mermaid").textContent = "Copy Mermaid"; }, 1500);
      } catch {
        save("ledger.mmd", text, "text/plain");
        FH.say("The clipboard is closed to this page; saved ledger.mmd");
      }
    });
    /* Perfetto's page answers PING with PONG once it can take a trace. Nothing leaves this machine: it is read there. */
    offer("to-perfetto", "trace", "ledger.trace.json", (text) => {
      const origin = "https://ui.perfetto.dev";
      const opened = window.open(origin);
      if (!opened) {
        save("ledger.trace.json", text, "application/json");
        FH.say("The window was not opened; saved ledger.trace.json, to be opened at ui.perfetto.dev");
        return;
      }
      const ping = setInterval(() => opened.postMessage("PING", origin), 100);
      const stop = setTimeout(() => clearInterval(ping), 30000);
      const answer = (event) => {
        if (event.source !== opened || event.data !== "PONG") return;
        clearInterval(ping);
        clearTimeout(stop);
        window.removeEventListener("message", answer);
        const buffer = new TextEncoder().encode(text).buffer;
        opened.postMessage({ perfetto: { buffer, title: "Freehold ledger", fileName: "ledger.trace.json" } }, origin);
      };
      window.addEventListener("message", answer);
    });
  };

  summary();
  parts = { timeline: FH.timeline(), lanes: FH.lanesView(), tables: FH.tables() };
  FH.panel();
  cards(parts.tables);
  search();
  buttons();
  parts.timeline.slide();
  new ResizeObserver(() => FH.redraw()).observe(get("lanes-section"));
  window.addEventListener("resize", FH.redraw);
  for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) matchMedia(query).addEventListener("change", FH.redraw);
  document.documentElement.dataset.ready = "yes";
})();
