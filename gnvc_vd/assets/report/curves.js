"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const codecs = new Map(data.codecs.map((codec) => [codec.name, codec]));
const named = (codec) => codecs.get(codec)?.label ?? codec;
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
  const lines = [`${named(row.codec)}${row.level === null ? "" : `, level ${row.level}`}`, `${row.bpp.toFixed(5)} bpp`];
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
    const button = element("button", $("legend"), { "aria-pressed": "true" }, codec.label);
    button.style.setProperty("--of", codec.colour);
    button.onclick = () => {
      hidden.has(codec.name) ? hidden.delete(codec.name) : hidden.add(codec.name);
      button.setAttribute("aria-pressed", String(!hidden.has(codec.name)));
      drawCurves();
    };
  }
}
