/* ---- flicker ---- */

let drawing = 0;

/* A strip for every codec, the two that play first. */
async function drawStrips() {
  const turn = (drawing += 1), { width, height, frames } = clip(), row = Number($("row").value);
  const first = ["source", $("left").value, $("right").value], names = offered();
  const strips = names.map((codec) => {
    const box = document.createElement("figure"), text = caption(codec);
    element("figcaption", box, {}, text);
    element("span", box, { class: "time" }, `time, ${frames} frames →`);
    const canvas = element("canvas", box, { width, height: frames, "data-codec": codec, role: "img" });
    canvas.setAttribute("aria-label", `row ${row} of ${height} over ${frames} frames, ${text}`);
    canvas.style.height = `${Math.max(120, frames * 4)}px`;
    element("span", box, { class: "place" }, `place in the row, ${width} pixels →`);
    return { codec, box, canvas, address: address(codec) };
  });
  $("drawing").textContent = `of ${height}`;
  delete $("strips").dataset.row; // until all are drawn
  $("strips").replaceChildren(...strips.map((one) => one.box));
  const urgent = ({ codec }) => (first.includes(codec) ? first.indexOf(codec) : first.length);
  const waiting = [...strips].sort((a, b) => urgent(a) - urgent(b));
  const work = async () => {
    for (let one = waiting.shift(); one && turn === drawing; one = waiting.shift()) await drawStrip(one, row, () => turn === drawing);
  };
  await Promise.all([work(), work(), work()]); // seeking waits more than it works
  if (turn !== drawing) return;
  $("strips").dataset.row = row;
}

async function drawStrip({ canvas, address: url }, row, wanted) {
  const reader = document.createElement("video"), context = canvas.getContext("2d"), { width, height: frames } = canvas;
  await opened(reader, url);
  for (let number = 0; number < frames; number += 1) {
    await seeked(reader, timeOf(number));
    if (!wanted()) return;
    context.drawImage(reader, 0, row, width, 1, 0, number, width, 1);
  }
}
