/* ---- flicker ---- */

let drawing = 0;

async function drawStrips() {
  const turn = (drawing += 1), { width, height, frames } = clip(), row = Number($("row").value);
  $("strips").replaceChildren();
  for (const codec of offered()) {
    const box = element("figure", $("strips"));
    const canvas = element("canvas", box, { width, height: frames, "data-codec": codec });
    canvas.style.height = `${Math.max(120, frames * 4)}px`;
    element("figcaption", box, {}, caption(codec));
    const reader = document.createElement("video"), context = canvas.getContext("2d");
    reader.muted = true;
    await opened(reader, address(codec));
    for (let number = 0; number < frames; number += 1) {
      await seeked(reader, timeOf(number));
      if (turn !== drawing) return;
      context.drawImage(reader, 0, row, width, 1, 0, number, width, 1);
    }
    $("drawing").textContent = `${named(codec)}: ${frames} frames`;
  }
  $("drawing").textContent = `row ${row} of ${height}, ${frames} frames`;
  $("strips").dataset.row = row;
}

/* ---- tables and commands ---- */

function tables() {
  for (const { title, columns, rows, notes } of data.tables) {
    element("h3", $("tables"), {}, title);
    const table = element("table", element("div", $("tables"), { class: "scroll" })), head = element("tr", table);
    for (const text of columns) element("th", head, {}, text);
    for (const row of rows) {
      const line = element("tr", table);
      for (const text of row) element("td", line, {}, text);
    }
    for (const note of notes) element("p", $("tables"), { class: "hint" }, note);
  }
}

function commands() {
  for (const { name, encode, decode, settings } of data.commands) {
    const box = element("details", $("commands"));
    element("summary", box, {}, name);
    element("code", box, {}, encode);
    element("code", box, {}, decode || "encoding made the pictures too");
    element("code", box, {}, settings);
  }
}

/* ---- beginning ---- */

function start() {
  $("about").textContent = data.about;
  choices($("metric"), data.metrics.filter((one) => data.rows.some((row) => row.figures[one.key] != null)).map((one) => [one.key, one.label]));
  choices($("curve-sequence"), data.sequences.map((name) => [name, name === "mean" ? `mean of ${data.sequences.length - 1}` : name]));
  choices($("sequence"), Object.keys(data.clips).map((name) => [name, name]));
  choices($("rate"), data.rates.map((rate, i) => [i, rate]));
  legend();
  tables();
  commands();
  drawCurves();
  $("metric").onchange = $("curve-sequence").onchange = drawCurves;
  $("curves").onmousemove = hover;
  $("curves").onmouseleave = () => { hover({ clientX: -1e6, clientY: -1e6 }); };
  $("curves").onclick = async (event) => {
    const found = nearest(event);
    if (!found || !(found.row.codec in (data.shown[found.row.sequence] ?? data.shown[$("sequence").value]))) return;
    if (found.row.sequence in data.clips) $("sequence").value = found.row.sequence;
    const levels = Object.entries(data.shown[$("sequence").value][found.row.codec]);
    const near = (level) => Math.abs(Math.log(data.rows.find((row) => row.codec === found.row.codec
      && row.sequence === $("sequence").value && row.level === level).bpp / found.row.bpp));
    $("rate").value = levels.sort((a, b) => near(a[1]) - near(b[1]))[0][0];
    fillSides("source", found.row.codec);
    $("stage").scrollIntoView({ block: "center" });
  };
  $("sequence").onchange = $("rate").onchange = () => fillSides($("left").value, $("right").value);
  $("left").onchange = $("right").onchange = load;
  $("view").onchange = () => { $("stage").className = $("view").value; place(); };
  $("wipe").oninput = () => $("stage").style.setProperty("--wipe", `${$("wipe").value / 10}%`);
  $("play").onclick = () => (playing ? step(0) : play());
  $("back").onclick = () => step(-1);
  $("forward").onclick = () => step(1);
  $("frame").oninput = () => { pause(); go(Number($("frame").value)); };
  $("speed").onchange = () => { for (const side of sides) video[side].playbackRate = Number($("speed").value); };
  $("reset").onclick = () => { zoom = 1; shift = { x: 0, y: 0 }; place(); };
  $("row").oninput = mark;
  $("draw").onclick = drawStrips;
  $("stage").addEventListener("wheel", zoomAt, { passive: false });
  $("stage").ondblclick = (event) => {
    const at = inPane(event), height = clip().height;
    $("row").value = Math.max(0, Math.min(height - 1, Math.floor(((at.y - shift.y) / zoom / at.height) * height)));
    mark();
    drawStrips();
  };
  let held = null;
  $("stage").onpointerdown = (event) => { held = { x: event.clientX - shift.x, y: event.clientY - shift.y }; };
  window.addEventListener("pointermove", (event) => {
    if (held === null || zoom === 1) return;
    shift = { x: event.clientX - held.x, y: event.clientY - held.y };
    place();
  });
  window.addEventListener("pointerup", () => { held = null; });
  window.addEventListener("resize", place);
  document.addEventListener("keydown", (event) => {
    if (["SELECT", "INPUT", "BUTTON"].includes(event.target.tagName)) return;
    const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), " ": () => $("play").click() };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  $("row").max = clip().height - 1;
  $("row").value = Math.floor(clip().height / 2);
  $("rate").value = Math.floor((data.rates.length - 1) / 2);
  fillSides("source", data.codecs.find((codec) => codec.kind === "ours")?.name);
}

start();
