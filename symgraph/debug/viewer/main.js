// Main: the history, the search, the chart of memory, and what starts the page.

function showFrame(number) {
  view.frame = Math.min(data.frames.length - 1, Math.max(0, number));
  const frame = data.frames[view.frame];
  const count = treeIds(frame.graph).length;
  byId("step").value = view.frame;
  byId("previous").disabled = view.frame === 0;
  byId("next").disabled = view.frame === data.frames.length - 1;
  byId("count").textContent = `${count} values`;
  const before = view.frame ? treeIds(data.frames[view.frame - 1].graph).length : count;
  const changes = frame.changes.length + frame.more;
  byId("reason").replaceChildren(frame.reason, element("small", {
    text: view.frame ? `  ${changes} change${changes === 1 ? "" : "s"}, ${before} \u2192 ${count} values` : ""}));
  draw();
  drawMemory();
  showPanel();
}

// -- search --------------------------------------------------------------------------------------

function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const list = byId("found");
  view.matches = new Set();
  if (words.length) {
    for (const id of treeIds(data.frames[view.frame].graph)) {
      const node = data.nodes[id];
      const where = node.lines.flat().join(" ");
      const about = `${nameOf(id)} ${node.op} ${node.label} ${node.type} ${node.module} ${where}`.toLowerCase();
      if (words.every((word) => about.includes(word))) view.matches.add(id);
    }
  }
  const rows = [...view.matches].slice(0, 60).map((id) => {
    const node = data.nodes[id];
    return element("li", {role: "option", "data-id": id, onclick: () => choose(id)},
      element("span", {text: node.inputs.length ? `${nameOf(id)}  ${node.op}` : nameOf(id)}),
      element("small", {text: node.module || node.type}));
  });
  if (rows.length) rows[0].setAttribute("aria-selected", "true");
  else rows.push(element("li", {class: "none", text: "Nothing found."}));
  if (view.matches.size > 60) rows.push(element("li", {class: "none", text: `and ${view.matches.size - 60} more`}));
  list.replaceChildren(...rows);
  list.hidden = !words.length;
  for (const box of byId("boxes").children)
    box.classList.toggle("match", view.matches.has(Number(box.dataset.id ?? -1)));
}

function choose(id) {
  byId("found").hidden = true;
  go(id);
}

function listenToSearch() {
  const input = byId("search");
  input.addEventListener("input", () => search(input.value));
  input.addEventListener("focus", () => input.value && search(input.value));
  input.addEventListener("keydown", (event) => {
    const rows = [...byId("found").querySelectorAll("li[data-id]")];
    const at = rows.findIndex((row) => row.getAttribute("aria-selected") === "true");
    if (event.key === "Enter" && rows[at]) choose(Number(rows[at].dataset.id));
    else if (event.key === "Escape") input.blur();
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const to = rows[Math.min(rows.length - 1, Math.max(0, at + (event.key === "ArrowDown" ? 1 : -1)))];
      rows.forEach((row) => row.setAttribute("aria-selected", String(row === to)));
      if (to) to.scrollIntoView({block: "nearest"});
    }
  });
  document.addEventListener("pointerdown", (event) => {
    if (!byId("finder").contains(event.target)) byId("found").hidden = true;
  });
}

// -- memory --------------------------------------------------------------------------------------

const CHART = {w: 1000, h: 100};

function drawMemory() {
  const {memory, held} = graphNow();
  const chart = byId("memory");
  chart.replaceChildren();
  chart.setAttribute("viewBox", `0 0 ${CHART.w} ${CHART.h}`);
  chart.setAttribute("preserveAspectRatio", "none");
  const peak = Math.max(held, 1, ...memory.map((each) => each[1]));
  const highest = memory.find((each) => each[1] === peak);
  byId("memory-title").replaceChildren("Memory while it runs, ", sizesText(), ": at most ",
    element("b", {text: number(peak, "B")}), highest ? ` at ${nameOf(highest[0])} ${data.nodes[highest[0]].op}` : "",
    `, of which ${number(held, "B")} are inputs and shared variables`);
  const y = (bytes) => CHART.h - (bytes / peak) * (CHART.h - 4);
  const step = CHART.w / Math.max(1, memory.length);
  const top = memory.map(([, bytes], i) => `L${i * step} ${y(bytes)} L${(i + 1) * step} ${y(bytes)}`);
  svg("path", {class: "live", d: `M0 ${CHART.h} ${top.join(" ")} L${CHART.w} ${CHART.h} Z`}, chart);
  svg("rect", {class: "held", x: 0, y: y(held), width: CHART.w, height: CHART.h - y(held)}, chart);
  svg("line", {class: "here", y1: 0, y2: CHART.h, visibility: "hidden"}, chart);
  svg("line", {class: "cursor", y1: 0, y2: CHART.h, visibility: "hidden"}, chart);
  drawMemoryMark();
}

function drawMemoryMark() {
  const {memory} = graphNow();
  const at = memory.findIndex((each) => each[0] === view.selected);
  const line = byId("memory").querySelector(".here");
  moveLine(line, at, memory.length);
}

function moveLine(line, at, count) {
  const x = ((at + 0.5) * CHART.w) / Math.max(1, count);
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
  line.setAttribute("visibility", at < 0 ? "hidden" : "visible");
}

function listenToMemory() {
  const chart = byId("memory");
  const tip = byId("tip");
  const stepAt = (event) => {
    const {left, width} = chart.getBoundingClientRect();
    const {memory} = graphNow();
    return Math.min(memory.length - 1, Math.floor(((event.clientX - left) / width) * memory.length));
  };
  chart.addEventListener("pointermove", (event) => {
    const at = stepAt(event);
    const {memory} = graphNow();
    if (at < 0) return;
    const [id, bytes] = memory[at];
    moveLine(chart.querySelector(".cursor"), at, memory.length);
    tip.textContent = `step ${at + 1} of ${memory.length}: ${nameOf(id)} = ${data.nodes[id].op}   ${number(bytes, "B")}`;
    tip.hidden = false;
    const {left, width} = chart.getBoundingClientRect();
    tip.style.left = `${Math.min(Math.max(event.clientX - tip.offsetWidth / 2, left), left + width - tip.offsetWidth)}px`;
  });
  chart.addEventListener("pointerleave", () => {
    tip.hidden = true;
    moveLine(chart.querySelector(".cursor"), -1, 1);
  });
  chart.addEventListener("click", (event) => {
    const at = stepAt(event);
    if (at >= 0) go(graphNow().memory[at][0]);
  });
}

// -- start ---------------------------------------------------------------------------------------

function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const {width, height} = byId("canvas").getBoundingClientRect();
    const actions = {
      "/": () => byId("search").focus(),
      "0": fit,
      "+": () => zoom(1.25, width / 2, height / 2),
      "-": () => zoom(0.8, width / 2, height / 2),
      ",": () => showFrame(view.frame - 1),
      ".": () => showFrame(view.frame + 1),
      Escape: () => select(null),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  });
}

function start() {
  byId("title").textContent = data.title;
  byId("history").hidden = data.frames.length < 2;
  byId("step").max = data.frames.length - 1;
  byId("step").addEventListener("input", (event) => showFrame(Number(event.target.value)));
  byId("previous").addEventListener("click", () => showFrame(view.frame - 1));
  byId("next").addEventListener("click", () => showFrame(view.frame + 1));
  byId("fit").addEventListener("click", fit);
  byId("expand").addEventListener("click", () => setAll(true));
  byId("collapse").addEventListener("click", () => setAll(false));
  byId("canvas").addEventListener("click", (event) => {
    if (event.target === byId("canvas") && !pan.moved) select(null);
  });
  listenToCanvas();
  listenToSearch();
  listenToMemory();
  listenToKeys();
  openSome(graphNow());
  showFrame(view.frame);
  fit();
}

function setAll(open) {
  view.open = new Set(open ? groupsIn(graphNow().tree).map((part) => part.key) : []);
  draw();
  fit();
}

start();
