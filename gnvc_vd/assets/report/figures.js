"use strict";
/* ---- what all parts share ---- */

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const codecs = new Map(data.codecs.map((codec) => [codec.name, codec]));
const metrics = new Map(data.metrics.map((metric) => [metric.key, metric]));
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const named = (codec) => (codec === "source" ? data.source : codecs.get(codec)?.label ?? codec);

function element(name, parent, attributes = {}, text = null) {
  const svg = parent.namespaceURI === SVG || name === "svg";
  const made = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return parent.appendChild(made);
}

function choices(select, pairs) {
  select.replaceChildren();
  for (const [value, text] of pairs) element("option", select, { value }, text);
}

/* Three significant digits, and all digits of what is whole; as report/tables.py has it. */
function digits(value) {
  if (value === null || value === undefined) return "–";
  const known = Math.abs(value) < 5e-7 ? 0 : value;
  const places = Math.max(0, 2 - Number(known.toExponential(2).split("e")[1]));
  return known.toFixed(places).replace("-", "−");
}
