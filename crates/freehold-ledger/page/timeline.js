/* The line of live bytes at the top, and the two sliders below it. */
(() => {
  const KINDS = [["single", "one framework"], ["shared", "shared"], ["copied", "copies"], ["pinned", "pinned by small views"]];
  const GUTTER = 150;

  FH.colours = () => {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue(`--${name}`).trim();
  };

  /* A canvas as large as its place on the screen, in device pixels. */
  FH.context = (canvas, height) => {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.parentElement.clientWidth;
    canvas.style.height = `${height}px`;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return [context, width];
  };

  /* Live bytes of each kind after every event. A buffer counts from its first holder to its last. */
  const series = () => {
    const open = new Map();
    const now = { single: 0, shared: 0, copied: 0, pinned: 0 };
    const points = FH.events.map(({ holder, opens }, step) => {
      const { lane } = holder;
      const count = open.get(lane) ?? 0;
      if (opens && count === 0) now[lane.kind] += lane.len;
      if (!opens && count === 1) now[lane.kind] -= lane.len;
      open.set(lane, count + (opens ? 1 : -1));
      const { single, shared, copied, pinned } = now;
      return { step, total: single + shared + copied + pinned, single, shared, copied, pinned };
    });
    return points;
  };

  FH.timeline = () => {
    const canvas = document.getElementById("bytes");
    const points = series();
    const legend = document.getElementById("legend");
    const used = KINDS.filter(([kind]) => points.some((point) => point[kind] > 0));
    legend.replaceChildren(...used.map(([kind, label]) => {
      const key = FH.element("i");
      key.style.background = `var(--${kind})`;
      return FH.element("li", {}, key, label);
    }));
    const top = points.reduce((most, point) => Math.max(most, point.total), 0);
    const last = points.length ? points[points.length - 1].total : 0;
    canvas.setAttribute("aria-label", points.length
      ? `Live bytes over ${FH.plural(points.length, "event")}: at most ${FH.bytes(top)}, ${FH.bytes(last)} at the end.`
      : "No buffer is on record.");

    /* One point a pixel is all that can be seen: of those on one, the highest. */
    const thinned = (width) => {
      const columns = [];
      for (const point of points) {
        const x = Math.round(FH.positionOfEvent(point.step) * width);
        const column = columns[columns.length - 1];
        if (column && column.x === x) {
          if (point.total >= column.point.total) column.point = point;
          column.last = point;
        } else {
          columns.push({ x, point, last: point });
        }
      }
      return columns.flatMap(({ x, point, last: end }) => (point === end ? [{ x, ...point }] : [{ x, ...point }, { x, ...end }]));
    };

    const draw = () => {
      const [context, width] = FH.context(canvas, 116);
      const colour = FH.colours();
      const inner = width - GUTTER;
      const y = vendor.scaleLinear().domain([0, top || 1]).range([108, 10]);
      context.font = "11px system-ui, sans-serif";
      context.textBaseline = "middle";
      context.textAlign = "right";
      for (const tick of [0, 0.5, 1]) {
        context.fillStyle = colour("soft");
        if (top) context.fillText(FH.bytes(Math.round(top * tick)), GUTTER - 8, y(top * tick));
        context.fillStyle = colour("line");
        context.fillRect(GUTTER, Math.round(y((top || 1) * tick)), inner, 1);
      }
      const columns = thinned(inner);
      if (!columns.length) return;
      columns.push({ ...columns[columns.length - 1], x: inner });
      context.save();
      context.translate(GUTTER, 0);
      let below = () => 0;
      for (const [kind] of KINDS) {
        const base = below;
        const above = (point) => base(point) + point[kind];
        context.beginPath();
        vendor.area().x((p) => p.x).y0((p) => y(base(p))).y1((p) => y(above(p))).curve(vendor.curveStepAfter).context(context)(columns);
        context.fillStyle = colour(kind);
        context.fill();
        below = above;
      }
      context.restore();
      /* What is outside the sliders is dimmed. */
      context.fillStyle = colour("paper");
      context.globalAlpha = 0.72;
      context.fillRect(GUTTER, 0, FH.state.from * inner, 110);
      context.fillRect(GUTTER + FH.state.to * inner, 0, (1 - FH.state.to) * inner, 110);
      context.globalAlpha = 1;
      if (FH.state.event >= 0) {
        context.fillStyle = colour("select");
        context.fillRect(GUTTER + FH.positionOfEvent(FH.state.event) * inner - 1, 0, 2, 112);
      }
    };

    const [from, to] = ["from", "to"].map((id) => document.getElementById(id));
    const words = (value) => {
      const i = Math.max(0, Math.min(FH.events.length - 1, Math.round(value * FH.events.length) - 1));
      if (!FH.events.length) return "no events";
      return FH.axis === "order" ? `event ${i + 1} of ${FH.events.length}` : `${FH.duration(FH.start + value * (FH.end - FH.start))} from the start`;
    };
    const slide = (moved) => {
      /* The handles keep a thousandth between them and never cross. */
      if (Number(from.value) >= Number(to.value)) {
        if (moved === from) from.value = Number(to.value) - 1; else to.value = Number(from.value) + 1;
      }
      FH.state.from = Number(from.value) / 1000;
      FH.state.to = Number(to.value) / 1000;
      for (const input of [from, to]) input.setAttribute("aria-valuetext", words(Number(input.value) / 1000));
      const range = document.getElementById("range");
      range.style.setProperty("--a", `${FH.state.from * 100}%`);
      range.style.setProperty("--b", `${FH.state.to * 100}%`);
      FH.redraw();
    };
    from.addEventListener("input", () => slide(from));
    to.addEventListener("input", () => slide(to));
    FH.showRange = (a, b) => {
      from.value = Math.floor(a * 1000);
      to.value = Math.ceil(b * 1000);
      slide(to);
    };
    for (const radio of document.querySelectorAll("input[name=axis]")) {
      radio.addEventListener("change", () => { FH.axis = radio.value; slide(to); });
    }
    return { draw, slide: () => slide(to) };
  };
})();
