/* The panel at the right: one buffer, everyone who holds or held it, how each came to it, and what to do. */
(() => {
  const { element } = FH;

  FH.describe = (holder) => {
    const how = holder.verdict ? `, ${holder.verdict === "copy" ? "copied" : "shared"} from ${FH.named(holder.from)}` : "";
    const codes = holder.reasons.length ? ` (${holder.reasons.join(" ")})` : "";
    const end = holder.closed_ns === null ? "" : ", gone";
    const hazard = holder.hazards.length ? `, hazard ${holder.hazards.map((h) => h.code).join(" ")}` : "";
    return `${FH.named(holder.framework)} ${FH.layout(holder)} ${holder.role === "owner" ? "owns" : "holds"}${how}${codes}${end}${hazard}`;
  };

  const facts = (rows) => {
    const list = element("dl");
    for (const [name, value, mono] of rows) if (value !== null && value !== undefined && value !== "") list.append(element("dt", {}, name), element("dd", { className: mono ? "mono" : "" }, String(value)));
    return list;
  };

  const badge = (text, kind = "") => element("span", { className: `badge ${kind}` }, text);

  const card = (holder) => {
    const how = [];
    if (holder.verdict) how.push(`${holder.verdict === "copy" ? `copied ${FH.bytes(holder.bytes)}` : "shared"} from ${FH.named(holder.from)}`);
    if (holder.steps?.length) how.push(holder.steps.join(" + "));
    if (holder.reasons.length) how.push(holder.reasons.join(" "));
    const life = holder.closed_ns === null
      ? `since ${FH.duration(holder.opened_ns - FH.start)}, thread ${holder.thread}`
      : `${FH.duration(holder.opened_ns - FH.start)} to ${FH.duration(holder.closed_ns - FH.start)}, thread ${holder.thread}${holder.closed_by && holder.closed_by !== holder.thread ? `, closed by thread ${holder.closed_by}` : ""}`;
    const made = element("div", { className: `holder${holder === FH.state.holder ? " current" : ""}${holder.closed_ns === null ? "" : " gone"}` },
      element("p", {}, element("b", {}, FH.named(holder.framework)), ` ${FH.layout(holder)}  ${holder.role === "owner" ? "owner" : "holder"}${holder.closed_ns === null ? "" : ", gone"}`),
      how.length ? element("p", { className: "how" }, how.join(", ")) : null,
      holder.site ? element("p", { className: "mono" }, holder.site) : null,
      element("p", { className: "how" }, life));
    made.style.borderLeftColor = FH.colour(FH.named(holder.framework));
    const flags = element("p");
    for (const hazard of holder.hazards) flags.append(badge(hazard.code, "bad"));
    for (const flag of holder.flags) flags.append(badge(flag.replace("_", "-")));
    if (flags.childNodes.length) made.append(flags);
    return made;
  };

  FH.panel = () => {
    const { lane, holder } = FH.state;
    const body = document.getElementById("panel-body");
    const heading = document.getElementById("panel-heading");
    if (!lane) {
      heading.textContent = "Nothing is selected";
      body.replaceChildren(element("p", {}, "Choose a buffer in the lanes, a row of a table, or search for a pointer."));
      return;
    }
    heading.textContent = lane.id === null ? "A buffer that is gone" : `Buffer #${lane.id}`;
    const used = lane.buffer && lane.buffer.used_bytes < lane.len ? FH.bytes(lane.buffer.used_bytes) : null;
    const parts = [facts([
      ["size", FH.bytes(lane.len)], ["used by views", used], ["device", lane.device], ["address", lane.base, true],
      ["generation", lane.buffer && lane.buffer.generation > 1 ? lane.buffer.generation : null],
      ["holders", lane.holders.filter((h) => h.closed_ns === null).length || null],
      ["gone", lane.holders.filter((h) => h.closed_ns !== null).length || null],
    ])];
    for (const hazard of lane.hazards) parts.push(element("p", {}, badge(hazard.code, "bad"), hazard.note));
    if (lane.pinned) parts.push(element("p", {}, badge("HT02", "warn"), `views of ${FH.bytes(lane.pinned.used_bytes)} keep ${FH.bytes(lane.len)}`), element("p", { className: "fix" }, `→ ${lane.pinned.fix}`));
    for (const found of FH.snapshot.findings.copies) {
      if (found.bytes && lane.holders.some((h) => h.verdict === "copy" && h.site === found.site && FH.named(h.from) === FH.named(found.from) && h.reasons.join() === found.reasons.join())) parts.push(element("p", { className: "fix" }, `→ ${found.fix}`));
    }
    parts.push(FH.graph(lane), element("h3", {}, "Who holds it"));
    const most = 100;
    const order = [...lane.holders].sort((a, b) => (a === holder ? -1 : b === holder ? 1 : (a.closed_ns === null ? 0 : 1) - (b.closed_ns === null ? 0 : 1)));
    parts.push(...order.slice(0, most).map(card));
    if (order.length > most) parts.push(element("p", {}, `and ${FH.plural(order.length - most, "more")}`));
    body.replaceChildren(...parts);
    document.getElementById("panel").scrollTop = 0;
  };
})();
