/* One lane a buffer, one bar a holder; arrows are handovers. Only what is on the screen is drawn. */
(() => {
  const GUTTER = 150;
  const ROW = 17;
  const MOST_ROWS = 8;
  const FEW = 120;

  /* Bars of one lane on as few rows as they fit without lying on each other; beyond the most rows they do. */
  const pack = (lane) => {
    if (lane.rows) return;
    const ends = [];
    for (const holder of lane.holders) {
      let row = ends.findIndex((end) => end < holder.openStep);
      if (row < 0) row = ends.length < 64 ? ends.length : holder.openStep % 64;
      ends[row] = holder.closed_ns === null ? Infinity : holder.closeStep;
      holder.row = row;
    }
    lane.rows = Math.max(1, ends.length);
    lane.bar = lane.rows <= MOST_ROWS ? ROW : Math.max(3, (ROW * MOST_ROWS) / lane.rows);
    lane.height = Math.max(38, lane.rows * lane.bar + 9);
  };

  FH.lanesView = () => {
    const box = document.getElementById("lanes");
    const canvas = document.getElementById("bars");
    const spacer = document.getElementById("spacer");
    const detail = document.getElementById("detail");
    const by = (value) => (a, b) => value(b) - value(a);
    /* What has a finding comes before what is only large. */
    const ranked = [...FH.lanes].sort(by((lane) => (lane.hazards.length ? 2 ** 62 : 0) + (lane.pinned ? 2 ** 61 : 0) + (lane.closed_ns === null ? lane.len : lane.len / 2)));
    let shown = [];
    let rest = { count: 0, bytes: 0 };
    let total = 0;
    let width = 0;

    const wanted = () => {
      const few = Math.min(FEW, ranked.length);
      return Math.round(few * Math.pow(ranked.length / Math.max(1, few), Number(detail.value) / 100));
    };
    document.getElementById("detail-label").hidden = ranked.length <= FEW;

    const inWindow = (lane) => {
      const first = FH.opens(lane.holders[0]);
      const last = lane.closed_ns === null ? 1 : lane.holders.reduce((most, holder) => Math.max(most, FH.closes(holder)), 0);
      return first <= FH.state.to && last >= FH.state.from;
    };

    const choose = () => {
      const limit = wanted();
      const alive = ranked.filter((lane) => lane.holders.length && inWindow(lane));
      shown = alive.slice(0, limit);
      if (FH.state.lane && !shown.includes(FH.state.lane) && FH.state.lane.holders.length) shown.push(FH.state.lane);
      shown.sort((a, b) => a.holders[0].openStep - b.holders[0].openStep);
      const hidden = alive.slice(limit);
      rest = { count: hidden.length, bytes: hidden.reduce((sum, lane) => sum + lane.len, 0) };
      let top = 0;
      for (const lane of shown) {
        pack(lane);
        lane.top = top;
        top += lane.height;
      }
      total = top + (rest.count ? 30 : 0);
      document.getElementById("detail-count").textContent = `${shown.length.toLocaleString("en")} of ${FH.plural(FH.lanes.length, "buffer")}`;
      const most = Math.max(160, Math.round(window.innerHeight * 0.46));
      const height = Math.max(64, Math.min(total, most));
      box.style.height = `${height + 2}px`;
      spacer.style.height = `${Math.max(0, total - height)}px`;
      return height;
    };

    const scale = () => {
      const { from, to } = FH.state;
      const inner = width - GUTTER - 10;
      return (position) => GUTTER + ((position - from) / Math.max(1e-9, to - from)) * inner;
    };

    const rectangle = (holder, x) => {
      const { lane } = holder;
      const left = Math.max(GUTTER, x(FH.opens(holder)));
      const right = Math.min(width - 4, Math.max(left + 2, x(FH.closes(holder))));
      return { left, right, top: lane.top + 4 + holder.row * lane.bar, height: Math.max(2, lane.bar - (lane.bar > 6 ? 3 : 1)) };
    };

    const visible = (holder) => FH.opens(holder) <= FH.state.to && FH.closes(holder) >= FH.state.from;

    const arrow = (context, x0, y0, x1, y1, dashed) => {
      context.setLineDash(dashed ? [4, 3] : []);
      context.beginPath();
      context.moveTo(x0, y0);
      context.bezierCurveTo(x0 + 14, (y0 + y1) / 2, x1 - 16, y1, x1 - 1, y1);
      context.stroke();
      context.setLineDash([]);
      context.beginPath();
      context.moveTo(x1, y1);
      context.lineTo(x1 - 6, y1 - 3.5);
      context.lineTo(x1 - 6, y1 + 3.5);
      context.fill();
    };

    // A canvas has nothing that keeps a name's direction marks from turning round what stands after it.
    const clip = (context, label, room) => {
      const text = label.replace(/[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
      if (context.measureText(text).width <= room) return text;
      let [low, high] = [0, text.length];
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (context.measureText(`${text.slice(0, middle)}…`).width <= room) low = middle; else high = middle - 1;
      }
      return low ? `${text.slice(0, low)}…` : "";
    };

    const drawBar = (context, colour, holder, x) => {
      const { left, right, top, height } = rectangle(holder, x);
      context.fillStyle = FH.colour(FH.named(holder.framework));
      context.globalAlpha = holder.closed_ns === null ? 1 : 0.62;
      context.beginPath();
      context.roundRect(left, top, right - left, height, Math.min(4, height / 2));
      context.fill();
      context.globalAlpha = 1;
      if (holder.readOnly && right - left > 4) {
        context.save();
        context.clip();
        context.strokeStyle = colour("hatch");
        context.lineWidth = 1.2;
        context.beginPath();
        for (let at = left - height; at < right; at += 7) {
          context.moveTo(at, top + height);
          context.lineTo(at + height, top);
        }
        context.stroke();
        context.restore();
      }
      if (holder.hazards.length) {
        context.strokeStyle = colour("bad");
        context.lineWidth = 2.5;
        context.stroke();
      }
      if (holder === FH.state.holder) {
        context.strokeStyle = colour("select");
        context.lineWidth = 2;
        context.beginPath();
        context.roundRect(left - 2.5, top - 2.5, right - left + 5, height + 5, 5);
        context.stroke();
      }
      if (height >= 12 && right - left > 34) {
        context.fillStyle = colour(holder.closed_ns === null ? "bar-ink" : "ink");
        const flags = holder.hazards.length ? `  ${[...new Set(holder.hazards.map((h) => h.code))].join(" ")}` : holder.readOnly ? "  read-only" : "";
        context.fillText(clip(context, `${FH.named(holder.framework)} ${FH.layout(holder)}${flags}`, right - left - 10), left + 5, top + height / 2 + 0.5);
      }
    };

    const draw = () => {
      const height = Math.min(box.clientHeight, Math.max(64, total || 64));
      const [context, w] = FH.context(canvas, height);
      width = w;
      const colour = FH.colours();
      const x = scale();
      const scroll = box.scrollTop;
      context.textBaseline = "middle";
      if (!shown.length) {
        context.font = "13px system-ui, sans-serif";
        context.fillStyle = colour("soft");
        context.fillText(FH.lanes.length ? "No buffer in this range" : "No buffer is on record", 12, 26);
        return;
      }
      context.save();
      context.translate(0, -scroll);
      const first = vendor.bisector((lane) => lane.top + lane.height).left(shown, scroll);
      const seen = [];
      for (let i = first; i < shown.length && shown[i].top < scroll + height; i += 1) seen.push(shown[i]);
      for (const lane of seen) {
        if (lane === FH.state.lane) {
          context.fillStyle = colour("panel");
          context.fillRect(0, lane.top, width, lane.height);
          context.fillStyle = colour("select");
          context.fillRect(0, lane.top, 3, lane.height);
        }
        context.fillStyle = colour("line");
        context.fillRect(0, lane.top + lane.height - 1, width, 1);
        context.font = "600 12px system-ui, sans-serif";
        context.fillStyle = lane.hazards.length ? colour("bad") : colour("ink");
        context.fillText(clip(context, `${lane.id === null ? "gone" : `#${lane.id}`}  ${FH.bytes(lane.len)}`, GUTTER - 18), 10, lane.top + 12);
        context.font = "11px system-ui, sans-serif";
        context.fillStyle = colour("soft");
        const where = lane.site ? lane.site.split(/[\\/]/).pop() : lane.frameworks.join(", ");
        context.fillText(clip(context, lane.pinned ? `pinned by ${FH.bytes(lane.pinned.used_bytes)}` : where, GUTTER - 18), 10, lane.top + 26);
      }
      context.font = "11px system-ui, sans-serif";
      for (const lane of seen) for (const holder of lane.holders) if (visible(holder)) drawBar(context, colour, holder, x);
      context.lineWidth = 1.3;
      for (const lane of seen) {
        for (const holder of lane.holders) {
          const parent = holder.parent && FH.byId.get(holder.parent);
          if (!parent || !visible(holder) || !parent.lane.rows || !shown.includes(parent.lane) || FH.opens(holder) < FH.state.from) continue;
          const [to, from] = [rectangle(holder, x), rectangle(parent, x)];
          if (parent.lane === lane && to.right - to.left < 8) continue; // too short for an arrow beside it
          const strong = holder === FH.state.holder || parent === FH.state.holder;
          context.strokeStyle = context.fillStyle = strong ? colour("select") : colour("ink");
          context.globalAlpha = strong ? 1 : 0.6;
          arrow(context, Math.max(from.left, to.left - 12), from.top + from.height, to.left, to.top + to.height / 2, holder.verdict === "copy");
          context.globalAlpha = 1;
        }
      }
      if (rest.count) {
        context.fillStyle = colour("soft");
        const gone = `${FH.plural(rest.count, "smaller buffer")}, ${FH.bytes(rest.bytes)} in all: move the detail slider to see them`;
        context.fillText(clip(context, gone, width - 24), 10, total - 14);
      }
      if (FH.state.event >= 0) {
        const at = x(FH.positionOfEvent(FH.state.event));
        context.fillStyle = colour("select");
        if (at >= GUTTER) context.fillRect(at - 0.5, scroll, 1.5, height);
      }
      context.restore();
    };

    const hit = (event) => {
      const bounds = canvas.getBoundingClientRect();
      const [px, py] = [event.clientX - bounds.left, event.clientY - bounds.top + box.scrollTop];
      const lane = shown[vendor.bisector((entry) => entry.top + entry.height).right(shown, py)];
      if (!lane || py < lane.top) return null;
      const x = scale();
      const over = lane.holders.filter(visible).filter((holder) => {
        const { left, right, top, height } = rectangle(holder, x);
        return px >= left - 1 && px <= right + 1 && py >= top - 1 && py <= top + height + 1;
      });
      return { lane, holder: over[over.length - 1] ?? null };
    };

    canvas.addEventListener("click", (event) => {
      const found = hit(event);
      if (found) FH.select(found.lane, found.holder);
    });
    canvas.addEventListener("mousemove", (event) => {
      const found = hit(event);
      canvas.title = found ? [found.lane.name, FH.bytes(found.lane.len), found.holder ? FH.describe(found.holder) : ""].filter(Boolean).join("  ") : "";
    });
    box.addEventListener("scroll", () => requestAnimationFrame(draw));
    box.addEventListener("keydown", (event) => {
      const move = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
      if (event.key === "Enter" && FH.state.lane) {
        document.getElementById("panel").focus();
      } else if (event.key === "Home" || event.key === "End") {
        const lane = shown[event.key === "Home" ? 0 : shown.length - 1];
        if (lane) FH.select(lane, null);
      } else if (move && move[0] && shown.length) {
        const at = shown.indexOf(FH.state.lane);
        const next = at < 0 ? (move[0] > 0 ? 0 : shown.length - 1) : Math.max(0, Math.min(shown.length - 1, at + move[0]));
        FH.select(shown[next], null);
      } else if (move && move[1]) {
        FH.step(move[1]);
      } else {
        return;
      }
      event.preventDefault();
    });
    detail.addEventListener("input", () => FH.redraw());

    const reveal = (lane) => {
      if (!shown.includes(lane)) return;
      const room = box.clientHeight;
      if (lane.top < box.scrollTop) box.scrollTop = lane.top;
      else if (lane.top + lane.height > box.scrollTop + room) box.scrollTop = lane.top + Math.min(lane.height, room) - room;
    };
    return { choose, draw, reveal, shown: () => shown };
  };
})();
