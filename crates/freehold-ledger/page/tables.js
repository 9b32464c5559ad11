/* The tabs at the bottom: the same facts as rows, with what to do about each; the view for a screen reader. */
(() => {
  const { element } = FH;
  const PAGE = 200;
  const number = (get, show = (n) => n.toLocaleString("en")) => ({ number: true, get, show });
  const words = (get) => ({ get });
  const code = (get) => ({ get, mono: true });
  const fix = (get) => ({ get, fix: true });
  const way = (row) => `${FH.named(row.from)} → ${FH.named(row.to)}`;
  const laneOf = (id) => FH.byId.get(id)?.lane ?? null;

  const tabs = () => {
    const { findings, hazards, stats, copies } = FH.snapshot;
    /* A copy that is listed tells which buffer a group of copies made. */
    const copied = (group) => {
      const one = copies.find((copy) => copy.holder && copy.site === group.site && copy.from === group.from && copy.to === group.to && FH.byId.has(copy.holder));
      return one ? { lane: laneOf(one.holder), holder: FH.byId.get(one.holder) } : null;
    };
    const unconsumed = findings.lent.filter((lent) => lent.state === "unconsumed");
    const held = (lent) => { const holder = FH.byId.get(lent.holder); return holder ? { lane: holder.lane, holder } : null; };
    const state = { held: "held", frozen: "frozen", unconsumed: "not consumed" };
    const lentColumns = {
      What: words((row) => `${FH.plural(row.count, "view")} ${state[row.state]}`), Way: words(way), Keeps: number((row) => row.bytes, FH.bytes),
      "Since the last mark": number((row) => row.since_mark), For: number((row) => row.oldest_ns, FH.duration), Where: code((row) => row.site), "What to do": fix((row) => row.fix),
    };
    return [
      { id: "copies", title: "Copies you could avoid", rows: findings.copies, empty: "Nothing was copied.", go: copied, columns: {
        Bytes: number((row) => row.bytes, FH.bytes), Times: number((row) => row.count), Way: words(way),
        Why: words((row) => (row.asked ? "asked for" : [...row.reasons, row.steps.join("+")].join(" "))), Where: code((row) => row.site), "What would have shared": fix((row) => row.fix) } },
      { id: "waits", title: "Waits for a device", rows: findings.waits ?? [], empty: "The host waited for no device.", columns: { Times: number((row) => row.count), Way: words(way), Where: code((row) => row.site) } },
      { id: "lent", title: "Still lent", rows: findings.lent, empty: "Nothing is lent.", go: held, columns: lentColumns },
      { id: "pinned", title: "Pinned by small views", rows: findings.pinned, empty: "No small view keeps a large buffer.", go: (row) => ({ lane: FH.ofBuffer.get(row.buffer), holder: FH.byId.get(row.holders[0]?.id) ?? null }), columns: {
        Buffer: words((row) => `#${row.buffer}`), Keeps: number((row) => row.len, FH.bytes), "Views use": number((row) => row.used_bytes, FH.bytes), "Would free": number((row) => row.frees, FH.bytes),
        Held: words((row) => [...new Set(row.holders.map((holder) => FH.named(holder.framework)))].join(", ")), Where: code((row) => [...new Set(row.holders.map((holder) => holder.site).filter(Boolean))].join(", ")), "What to do": fix((row) => row.fix) } },
      { id: "unconsumed", title: "Never consumed", rows: unconsumed, go: held, columns: lentColumns,
        empty: FH.plural(stats.counters.find((counter) => counter.name === "unconsumed_capsules")?.count ?? 0, "capsule") + " went without a consumer; none is waiting for one." },
      { id: "hazards", title: "Hazards", rows: hazards, empty: "Nothing went wrong.", go: (row) => { const one = row.holders.find((holder) => FH.byId.has(holder.id)); return one ? { lane: laneOf(one.id), holder: FH.byId.get(one.id) } : null; }, columns: {
        Code: words((row) => row.code), What: words((row) => row.note), "Held by": words((row) => row.holders.map((holder) => FH.named(holder.framework)).join(", ")),
        Where: code((row) => [...new Set(row.holders.map((holder) => holder.site).filter(Boolean))].join(", ")), At: number((row) => row.at_ns, FH.duration) } },
      { id: "refused", title: "Refused", rows: stats.refused, empty: "Nothing was refused.", columns: { Code: words((row) => row.code), Way: words(way), Times: number((row) => row.count) } },
      { id: "frameworks", title: "Frameworks", rows: findings.frameworks, empty: "No framework is on record.", columns: {
        Framework: words((row) => FH.named(row.framework)), Holders: number((row) => row.holders), Owns: number((row) => row.owned_bytes, FH.bytes), "Holds of others": number((row) => row.borrowed_bytes, FH.bytes),
        "Copied for it": number((row) => row.copied_in, FH.bytes), "Copied from it": number((row) => row.copied_out, FH.bytes) } },
      { id: "devices", title: "Devices", rows: stats.live.by_device, empty: "Nothing is live.", columns: { Device: words((row) => row.device), Buffers: number((row) => row.buffers), Holders: number((row) => row.holders), Bytes: number((row) => row.bytes, FH.bytes) } },
      { id: "peak", title: "Peak", rows: findings.peak?.holders ?? [], empty: "No peak is known.", note: findings.peak
        ? `${FH.bytes(findings.peak.bytes)} at ${FH.duration(findings.peak.at_ns)}${findings.peak.exact ? "" : ", the most that a question to the ledger came across"}` : "",
        go: (row) => (row.buffer === null ? null : { lane: FH.ofBuffer.get(row.buffer), holder: null }), columns: {
        Bytes: number((row) => row.bytes, FH.bytes), Device: words((row) => row.device), Framework: words((row) => FH.named(row.framework)), Buffer: words((row) => (row.buffer === null ? "gone" : `#${row.buffer}`)), Where: code((row) => row.site) } },
      { id: "all", title: "All holders", rows: FH.holders, empty: "Nobody is on record.", go: (row) => ({ lane: row.lane, holder: row }), columns: {
        Buffer: words((row) => row.lane.name), Size: number((row) => row.lane.len, FH.bytes), Who: words((row) => FH.named(row.framework)), Role: words((row) => row.role), What: words(FH.layout),
        How: words((row) => (row.from === null ? "" : `${FH.how(row)} from ${FH.named(row.from)}`)), Flags: words((row) => [...row.flags, ...row.hazards.map((h) => h.code)].join(" ").replaceAll("_", "-")),
        Where: code((row) => row.site), Came: number((row) => row.opened_ns - FH.start, FH.duration), Went: number((row) => (row.closed_ns === null ? Infinity : row.closed_ns - FH.start), (at) => (at === Infinity ? "" : FH.duration(at))) } },
    ];
  };

  const cell = (column, row, link) => {
    const value = column.get(row);
    const text = column.show ? column.show(value) : value;
    const made = element("td", { className: [column.number ? "number" : "", column.mono ? "mono" : "", column.fix ? "fix" : ""].join(" ").trim() });
    if (link) {
      const button = element("button", { type: "button", className: "go" }, text || "show");
      button.addEventListener("click", link);
      made.append(button);
    } else {
      made.append(text);
    }
    return made;
  };

  FH.tables = () => {
    const list = document.getElementById("tablist");
    const panel = document.getElementById("tabpanel");
    const all = tabs();
    let current = null;

    const fill = (tab) => {
      const columns = Object.entries(tab.columns);
      let shown = PAGE;
      const render = () => {
        if (!tab.rows.length) {
          panel.replaceChildren(element("p", {}, tab.empty));
          return;
        }
        const rows = tab.sort ? [...tab.rows].sort(tab.sort) : tab.rows;
        const head = element("tr");
        columns.forEach(([name, column]) => {
          const button = element("button", { type: "button" }, name);
          button.addEventListener("click", () => {
            tab.down = tab.by === name ? !tab.down : Boolean(column.number);
            tab.by = name;
            tab.sort = (a, b) => {
              const [x, y] = [column.get(a), column.get(b)];
              return (x < y ? -1 : x > y ? 1 : 0) * (tab.down ? -1 : 1);
            };
            render();
            [...panel.querySelectorAll("th button")].find((again) => again.textContent === name)?.focus();
          });
          const heading = element("th", { scope: "col", className: column.number ? "number" : "" }, button);
          if (tab.by === name) heading.setAttribute("aria-sort", tab.down ? "descending" : "ascending");
          head.append(heading);
        });
        const body = element("tbody");
        for (const row of rows.slice(0, shown)) {
          const target = tab.go?.(row);
          const line = element("tr");
          columns.forEach(([, column], i) => line.append(cell(column, row, i === 0 && target?.lane ? () => FH.select(target.lane, target.holder, true) : null)));
          if (target?.lane && target.lane === FH.state.lane) line.className = "current";
          body.append(line);
        }
        const caption = element("caption", {}, [tab.note, rows.length > shown ? `the first ${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : ""].filter(Boolean).join("; ") || tab.title);
        if (caption.textContent === tab.title) caption.className = "visually-hidden";
        const parts = [element("table", {}, caption, element("thead", {}, head), body)];
        if (rows.length > shown) {
          const more = element("button", { type: "button" }, `Show ${Math.min(PAGE * 5, rows.length - shown).toLocaleString("en")} more`);
          more.addEventListener("click", () => { shown += PAGE * 5; render(); });
          parts.push(more);
        }
        panel.replaceChildren(...parts);
      };
      tab.render = render;
      render();
    };

    const open = (id, focus = false) => {
      current = all.find((tab) => tab.id === id) ?? all[0];
      for (const button of list.children) {
        const chosen = button.id === `tab-${current.id}`;
        button.setAttribute("aria-selected", chosen);
        button.tabIndex = chosen ? 0 : -1;
        if (chosen && focus) button.focus();
      }
      panel.setAttribute("aria-labelledby", `tab-${current.id}`);
      fill(current);
    };

    list.replaceChildren(...all.map((tab) => {
      const button = element("button", { type: "button", id: `tab-${tab.id}`, attributes: { role: "tab", "aria-controls": "tabpanel" } }, `${tab.title} `, element("span", { className: "count" }, tab.rows.length.toLocaleString("en")));
      button.addEventListener("click", () => open(tab.id));
      return button;
    }));
    list.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const at = all.indexOf(current);
      const to = move ? (at + move + all.length) % all.length : event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : -1;
      if (to < 0) return;
      event.preventDefault();
      open(all[to].id, true);
    });
    open((all.find((tab) => tab.rows.length && ["copies", "lent", "pinned"].includes(tab.id)) ?? all[all.length - 1]).id);
    return { open, refresh: () => current?.render?.() };
  };
})();
