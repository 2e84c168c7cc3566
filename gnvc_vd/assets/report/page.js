"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const codecs = new Map(data.codecs.map((codec) => [codec.name, codec]));
const label = new Map(data.metrics.map((metric) => [metric.key, metric.label]));

function element(name, parent, attributes = {}, text = null) {
  const svg = parent.namespaceURI === SVG;
  const made = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return parent.appendChild(made);
}

function choices(select, pairs) {
  select.replaceChildren();
  for (const [value, text] of pairs) element("option", select, { value }, text);
}

function figure(key, value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 10 ? value.toFixed(2) : value.toFixed(4);
}

const bpp = (value) => (value >= 0.1 ? value.toFixed(3) : value.toFixed(4));

/* ---- curves ---- */

const FRAME = { left: 66, right: 884, top: 14, bottom: 412 };
const hidden = new Set();
let drawn = []; // the points on the chart: {x, y, row, circle, group}

function drawCurves() {
  const svg = $("curves"), metric = $("metric").value, sequence = $("curve-sequence").value;
  svg.replaceChildren();
  drawn = [];
  const rows = data.rows.filter((row) => row.sequence === sequence && !hidden.has(row.codec) && row.figures[metric] != null);
  if (!rows.length) {
    element("text", svg, { x: 450, y: 220, "text-anchor": "middle" }, "no figures of this metric here");
    return;
  }
  const rates = rows.map((row) => row.bpp), values = rows.map((row) => row.figures[metric]);
  const low = Math.log10(Math.min(...rates)) - 0.06, high = Math.log10(Math.max(...rates)) + 0.06;
  const spread = Math.max(...values) - Math.min(...values) || 1;
  const bottom = Math.min(...values) - 0.06 * spread, top = Math.max(...values) + 0.06 * spread;
  const x = (rate) => FRAME.left + ((Math.log10(rate) - low) / (high - low)) * (FRAME.right - FRAME.left);
  const y = (value) => FRAME.bottom - ((value - bottom) / (top - bottom)) * (FRAME.bottom - FRAME.top);
  axes(svg, x, y, low, high, bottom, top, metric);
  for (const codec of data.codecs) {
    const own = rows.filter((row) => row.codec === codec.name).sort((a, b) => a.bpp - b.bpp);
    if (!own.length) continue;
    const group = element("g", svg, { class: codec.kind });
    const dash = codec.kind === "published" ? "6 5" : "none";
    const path = own.map((row, i) => `${i ? "L" : "M"}${x(row.bpp).toFixed(1)} ${y(row.figures[metric]).toFixed(1)}`).join("");
    element("path", group, { d: path, class: "curve", stroke: codec.colour, "stroke-dasharray": dash });
    for (const row of own) {
      const place = { x: x(row.bpp), y: y(row.figures[metric]) };
      const fill = codec.kind === "published" ? "#fff" : codec.colour;
      const circle = element("circle", group, { cx: place.x, cy: place.y, r: 5, fill, stroke: codec.colour });
      drawn.push({ ...place, row, circle, group });
    }
  }
}

function axes(svg, x, y, low, high, bottom, top, metric) {
  for (let decade = Math.floor(low); decade <= Math.ceil(high); decade += 1) {
    for (const step of [1, 2, 5]) {
      const rate = step * 10 ** decade;
      if (Math.log10(rate) < low || Math.log10(rate) > high) continue;
      element("line", svg, { class: "grid", x1: x(rate), x2: x(rate), y1: FRAME.top, y2: FRAME.bottom });
      element("text", svg, { x: x(rate), y: FRAME.bottom + 18, "text-anchor": "middle" }, `${+rate.toPrecision(1)}`);
    }
  }
  const rough = (top - bottom) / 6, scale = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * scale).find((part) => part >= rough);
  for (let value = Math.ceil(bottom / step) * step; value <= top; value += step) {
    element("line", svg, { class: "grid", x1: FRAME.left, x2: FRAME.right, y1: y(value), y2: y(value) });
    const text = step < 1 ? value.toFixed(Math.ceil(-Math.log10(step))) : Math.round(value);
    element("text", svg, { x: FRAME.left - 8, y: y(value) + 4, "text-anchor": "end" }, text);
  }
  element("line", svg, { class: "axis", x1: FRAME.left, x2: FRAME.right, y1: FRAME.bottom, y2: FRAME.bottom });
  element("line", svg, { class: "axis", x1: FRAME.left, x2: FRAME.left, y1: FRAME.top, y2: FRAME.bottom });
  const better = data.metrics.find((one) => one.key === metric).lower ? "lower is better" : "higher is better";
  element("text", svg, { x: FRAME.right, y: FRAME.bottom + 38, "text-anchor": "end" }, "bits per pixel (log), of whole files");
  element("text", svg, { x: FRAME.left, y: FRAME.bottom + 38 }, `${label.get(metric)}, ${better}`);
}

function nearest(event) {
  const box = $("curves").getBoundingClientRect();
  const scale = 900 / box.width;
  const at = { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  let best = null;
  for (const point of drawn) {
    const distance = Math.hypot(point.x - at.x, point.y - at.y);
    if (distance < 26 && (best === null || distance < best.distance)) best = { distance, point };
  }
  return best && best.point;
}

function hover(event) {
  const found = nearest(event), tip = $("tip");
  for (const one of drawn) {
    one.circle.classList.toggle("near", one === found);
    one.group.classList.toggle("faint", found !== null && one.group !== found.group);
  }
  tip.hidden = found === null;
  if (found === null) return;
  const row = found.row;
  const lines = [`${row.codec}${row.level === null ? "" : `, level ${row.level}`}`, `${row.bpp.toFixed(5)} bpp`];
  if (row.bytes) lines.push(`${row.bytes} bytes, ${row.kbps.toFixed(1)} kbit/s`);
  for (const { key } of data.metrics) if (row.figures[key] != null) lines.push(`${label.get(key)}  ${figure(key, row.figures[key])}`);
  if (row.note) lines.push(row.note);
  tip.textContent = lines.join("\n");
  const box = $("curves").getBoundingClientRect(), scale = box.width / 900;
  const right = found.x > 600;
  tip.style.left = `${found.x * scale + (right ? -14 : 14)}px`;
  tip.style.top = `${Math.min(found.y * scale, box.height - tip.offsetHeight - 4)}px`;
  tip.style.transform = right ? "translateX(-100%)" : "";
}

function legend() {
  for (const codec of data.codecs) {
    const button = element("button", $("legend"), { "aria-pressed": "true" }, codec.name);
    button.style.setProperty("--of", codec.colour);
    button.onclick = () => {
      hidden.has(codec.name) ? hidden.delete(codec.name) : hidden.add(codec.name);
      button.setAttribute("aria-pressed", String(!hidden.has(codec.name)));
      drawCurves();
    };
  }
}

/* ---- player ---- */

const sides = ["left", "right"];
const video = { left: $("video-left"), right: $("video-right") };
const urls = new Map();
let frameNow = 0, playing = false, zoom = 1, shift = { x: 0, y: 0 };

const clip = () => data.clips[$("sequence").value];
const shownRow = (codec) => (codec === "source" ? null : data.shown[$("sequence").value][codec]?.[$("rate").value] ?? null);

function address(codec) {
  const sequence = $("sequence").value, row = shownRow(codec);
  const key = codec === "source" ? `source/${sequence}` : `${codec}/${sequence}/${row}`;
  if (!urls.has(key)) {
    const bytes = Uint8Array.from(atob(data.videos[key]), (letter) => letter.charCodeAt(0));
    urls.set(key, URL.createObjectURL(new Blob([bytes], { type: "video/mp4" })));
  }
  return urls.get(key);
}

const rowOf = (codec) => data.rows.find((row) =>
  row.codec === codec && row.sequence === $("sequence").value && row.level === shownRow(codec));

function caption(codec) {
  return codec === "source" ? "source" : `${codec} · ${bpp(rowOf(codec).bpp)} bpp`;
}

function offered() {
  const sequence = $("sequence").value, rate = $("rate").value;
  return ["source", ...Object.keys(data.shown[sequence]).filter((codec) => rate in data.shown[sequence][codec])];
}

function fillSides(left, right) {
  const names = offered(), pairs = names.map((name) => [name, caption(name)]);
  for (const side of sides) choices($(side), pairs);
  $("left").value = names.includes(left) ? left : "source";
  $("right").value = names.includes(right) ? right : names[names.length > 1 ? 1 : 0];
  load();
}

async function load() {
  pause();
  const { width, height, frames } = clip();
  $("stage").parentElement.style.setProperty("--shape", `${width} / ${height}`);
  $("stage").parentElement.style.setProperty("--ratio", width / height);
  $("frame").max = frames - 1;
  $("row").max = height - 1;
  frameNow = Math.min(frameNow, frames - 1);
  await Promise.all(sides.map((side) => opened(video[side], address($(side).value))));
  for (const side of sides) $(`pane-${side}`).querySelector(".tag").textContent = caption($(side).value);
  compareFigures();
  mark();
  await go(frameNow);
}

function opened(element_, url) {
  if (element_.src === url && element_.readyState >= 2) return Promise.resolve();
  return new Promise((resolve, reject) => {
    element_.onloadeddata = resolve;
    element_.onerror = () => reject(new Error(`a video cannot be played: ${element_.error && element_.error.message}`));
    element_.src = url;
  });
}

function seeked(element_, time) {
  if (Math.abs(element_.currentTime - time) < 1e-4 && !element_.seeking) return Promise.resolve();
  return new Promise((resolve) => {
    element_.addEventListener("seeked", resolve, { once: true });
    element_.currentTime = time;
  });
}

const timeOf = (number) => (number + 0.5) / clip().rate;
const numberAt = (time) => Math.min(clip().frames - 1, Math.floor(time * clip().rate + 1e-3));

async function go(number) {
  frameNow = Math.max(0, Math.min(clip().frames - 1, number));
  counted();
  await Promise.all(sides.map((side) => seeked(video[side], timeOf(frameNow))));
}

function counted() {
  $("frame").value = frameNow;
  $("count").textContent = `${frameNow + 1} / ${clip().frames}`;
}

function pause() {
  playing = false;
  for (const side of sides) video[side].pause();
  $("play").textContent = "play";
}

async function play() {
  if (frameNow >= clip().frames - 1) await go(0);
  playing = true;
  $("play").textContent = "pause";
  for (const side of sides) video[side].playbackRate = Number($("speed").value);
  await Promise.all(sides.map((side) => video[side].play()));
  requestAnimationFrame(follow);
}

/* The left video keeps the time; the right one is set right where it strays by a frame. */
async function follow() {
  if (!playing) return;
  if (video.left.ended || video.right.ended) {
    for (const side of sides) video[side].pause();
    await go(0);
    if (playing) await play();
    return;
  }
  if (Math.abs(video.left.currentTime - video.right.currentTime) > 1 / clip().rate) video.right.currentTime = video.left.currentTime;
  frameNow = numberAt(video.left.currentTime);
  counted();
  requestAnimationFrame(follow);
}

function step(by) {
  const from = playing ? numberAt(video.left.currentTime) : frameNow;
  pause();
  return go(from + by);
}

function compareFigures() {
  const box = $("figures");
  box.replaceChildren();
  const table = element("table", element("div", box, { class: "scroll" })), head = element("tr", table);
  for (const text of ["", "bpp", "kbit/s", ...data.metrics.map((metric) => metric.label)]) element("th", head, {}, text);
  for (const side of sides) {
    const codec = $(side).value, line = element("tr", table);
    element("td", line, {}, `${side}: ${codec}`);
    const row = codec === "source" ? null : rowOf(codec);
    element("td", line, {}, row ? row.bpp.toFixed(5) : "–");
    element("td", line, {}, row ? row.kbps.toFixed(1) : "–");
    for (const { key } of data.metrics) element("td", line, {}, row ? figure(key, row.figures[key]) : "–");
  }
}

/* ---- zoom: one for both panes ---- */

function place() {
  const pane = $("pane-left").getBoundingClientRect();
  shift.x = Math.min(0, Math.max(pane.width * (1 - zoom), shift.x));
  shift.y = Math.min(0, Math.max(pane.height * (1 - zoom), shift.y));
  for (const side of sides) video[side].style.transform = `translate(${shift.x}px, ${shift.y}px) scale(${zoom})`;
  mark();
}

/* Where in a pane the pointer is, whichever pane it is over. */
function inPane(event) {
  const box = $("pane-left").getBoundingClientRect(), other = $("pane-right").getBoundingClientRect();
  const beside = $("stage").className === "beside" && event.clientX >= other.left;
  return { x: event.clientX - (beside ? other.left : box.left), y: event.clientY - box.top, height: box.height };
}

function zoomAt(event) {
  event.preventDefault();
  const at = inPane(event), before = zoom;
  zoom = Math.min(16, Math.max(1, zoom * Math.exp(-event.deltaY / 400)));
  shift = { x: at.x - ((at.x - shift.x) * zoom) / before, y: at.y - ((at.y - shift.y) * zoom) / before };
  place();
}

function mark() {
  const pane = $("pane-left").getBoundingClientRect(), height = clip().height;
  $("row-mark").style.top = `${shift.y + ((Number($("row").value) + 0.5) / height) * pane.height * zoom}px`;
  $("row-number").textContent = $("row").value;
}

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
    $("drawing").textContent = `${codec}: ${frames} frames`;
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
