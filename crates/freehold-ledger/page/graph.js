/* The ownership graph of one buffer: boxes are buffers, pills are holders, arrows say how a view came to be. */
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const MOST = 40;

  const node = (tag, attributes, ...children) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  /* The holders of a lane, those that its copies came from, and those that were copied from it. */
  const around = (lane) => {
    const near = lane.holders.slice(0, MOST);
    const ids = new Set(near.map((holder) => holder.id));
    const sources = near.map((holder) => holder.parent && FH.byId.get(holder.parent)).filter((parent) => parent && parent.lane !== lane);
    const copies = FH.copiesOf(lane).slice(0, 10);
    for (const other of [...sources, ...copies]) {
      if (!ids.has(other.id)) near.push(other);
      ids.add(other.id);
    }
    return near;
  };

  FH.copiesOf = (lane) => {
    if (!FH.children) {
      FH.children = new Map();
      for (const holder of FH.holders) {
        const parent = holder.parent && FH.byId.get(holder.parent);
        if (parent && parent.lane !== holder.lane) FH.children.set(parent.lane, [...(FH.children.get(parent.lane) ?? []), holder]);
      }
    }
    return FH.children.get(lane) ?? [];
  };

  FH.graph = (lane) => {
    const holders = around(lane);
    const lanes = [...new Set(holders.map((holder) => holder.lane))];
    const graph = new vendor.dagre.graphlib.Graph({ multigraph: true });
    graph.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 56, marginx: 8, marginy: 8 });
    graph.setDefaultEdgeLabel(() => ({}));
    const size = (lines) => Math.max(...lines.map((line) => line.length)) * 6.4 + 18;
    const put = (key, lines, more) => graph.setNode(key, { lines, width: size(lines), height: 14 * lines.length + 10, ...more });
    for (const holder of holders) {
      const lines = [short(`${FH.named(holder.framework)} ${FH.layout(holder)}`, 26), short(holder.site.split(/[\\/]/).pop() || (holder.role === "owner" ? "owner" : "holder"), 26)];
      put(holder.id, lines, { holder });
    }
    for (const one of lanes) {
      put(one.key, [one.id === null ? "buffer, gone" : `buffer #${one.id}`, `${one.device} ${FH.bytes(one.len)}`], { lane: one });
    }
    for (const holder of holders) {
      graph.setEdge(holder.id, holder.lane.key, { holds: true, label: holder.role === "owner" ? "owns" : "holds", width: 34, height: 12, labelpos: "c" }, "holds");
      if (holder.parent && graph.hasNode(holder.parent)) {
        const label = FH.how(holder);
        graph.setEdge(holder.parent, holder.id, { label, width: label.length * 6, height: 12, labelpos: "c" }, "from");
      }
    }
    vendor.dagre.layout(graph);

    const { width, height } = graph.graph();
    const words = holders.map((holder) => FH.describe(holder)).join("; ");
    const svg = node("svg", { role: "group", "aria-label": `Ownership graph of ${lane.name}: ${words}`, viewBox: `0 0 ${Math.max(200, width)} ${Math.max(80, height)}`, preserveAspectRatio: "xMidYMid meet" });
    const arrow = node("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, node("path", { d: "M0 0L8 4L0 8z", fill: "currentColor" }));
    const all = node("g", {});
    svg.style.height = `${Math.round(Math.max(70, Math.min(260, (370 * height) / Math.max(200, width) + 16)))}px`;
    svg.append(node("defs", {}, arrow), all);
    const line = vendor.line().x((p) => p.x).y((p) => p.y).curve(vendor.curveBasis);
    for (const key of graph.edges()) {
      const edge = graph.edge(key);
      const made = node("g", { class: edge.holds ? "edge holds" : "edge" });
      made.append(node("path", { d: line(edge.points), ...(edge.holds ? {} : { "marker-end": "url(#arrow)" }) }));
      const text = node("text", { x: edge.x, y: edge.y + 3, "text-anchor": "middle" });
      text.textContent = edge.label;
      made.append(text);
      all.append(made);
    }
    for (const key of graph.nodes()) {
      const { x, y, width: w, height: h, lines, holder, lane: of } = graph.node(key);
      const current = holder ? holder === FH.state.holder : of === FH.state.lane;
      const made = node("g", { class: `node${holder ? " holder-node" : ""}${current ? " current" : ""}`, transform: `translate(${x - w / 2},${y - h / 2})`, role: "button", tabindex: 0, "aria-label": holder ? FH.describe(holder) : of.name });
      made.append(node("rect", { width: w, height: h, rx: holder ? h / 2 : 3 }));
      if (holder) made.append(node("circle", { cx: 9, cy: h / 2, r: 4, fill: FH.colour(FH.named(holder.framework)) }));
      lines.forEach((words, i) => {
        const text = node("text", { x: w / 2 + (holder ? 4 : 0), y: 16 + 14 * i, "text-anchor": "middle", class: i ? "small" : "" });
        text.textContent = words;
        made.append(text);
      });
      const choose = () => FH.select(holder ? holder.lane : of, holder ?? null);
      made.addEventListener("click", choose);
      made.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose();
      });
      all.append(made);
    }
    const zooms = vendor.zoom().scaleExtent([0.3, 4]).filter((event) => event.type !== "dblclick" && (event.type !== "wheel" || event.ctrlKey)).on("zoom", ({ transform }) => all.setAttribute("transform", transform));
    vendor.select(svg).call(zooms);
    return svg;
  };
})();
