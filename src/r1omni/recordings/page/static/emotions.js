"use strict";
/* How emotions look: a colour of Okabe and Ito or of Tol, and a pattern, so that neither is alone. */

const LOOKS = {
  happy: ["#e69f00", "plain"], sad: ["#0072b2", "rows"], neutral: ["#b4b9c0", "plain"],
  angry: ["#d55e00", "cross"], surprise: ["#f0e442", "dots"], disgust: ["#009e73", "fall"],
  fear: ["#cc79a7", "bars"], contempt: ["#882255", "rise"], anxiety: ["#56b4e9", "rise"],
  helplessness: ["#44aa99", "dots"], disappointment: ["#999933", "rows"],
  calm: ["#b8dff0", "bars"], excited: ["#ee6677", "rows"], frustrated: ["#332288", "cross"],
};
const UNREADABLE = "unreadable";
const OTHER_LOOK = ["#777777", "fall"];
const TILE = 8;

function wordOf(label) {
  return label === null ? UNREADABLE : label;
}

/* A tile of an emotion's pattern on its colour; `scale` is device pixels per pixel. */
function tile(label, scale = 1) {
  const [colour, pattern] = label === null ? ["#e9e9e9", "fall"] : LOOKS[label] || OTHER_LOOK;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = TILE * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.fillStyle = colour;
  pen.fillRect(0, 0, TILE, TILE);
  const dark = ["sad", "contempt", "disgust", "frustrated"].includes(label);
  pen.strokeStyle = pen.fillStyle = dark ? "rgba(255,255,255,0.42)" : "rgba(0,0,0,0.26)";
  pen.lineWidth = 1.2;
  const line = (...points) => {
    pen.beginPath();
    pen.moveTo(points[0], points[1]);
    pen.lineTo(points[2], points[3]);
    pen.stroke();
  };
  const rise = () => [-TILE, 0, TILE].forEach((x) => line(x - 1, TILE + 1, x + TILE + 1, -1));
  const fall = () => [-TILE, 0, TILE].forEach((x) => line(x - 1, -1, x + TILE + 1, TILE + 1));
  if (pattern === "rise") rise();
  if (pattern === "fall") fall();
  if (pattern === "cross") { rise(); fall(); }
  if (pattern === "rows") line(0, 4, TILE, 4);
  if (pattern === "bars") line(4, 0, 4, TILE);
  if (pattern === "dots") {
    for (const [x, y] of [[2, 2], [6, 6]]) {
      pen.beginPath();
      pen.arc(x, y, 1.2, 0, 7);
      pen.fill();
    }
  }
  return canvas;
}

const TILE_URLS = new Map();

/* Give an element the look of a label (null: could not be read). */
function paint(element, label) {
  if (!TILE_URLS.has(label)) TILE_URLS.set(label, tile(label, 2).toDataURL());
  element.style.backgroundImage = `url(${TILE_URLS.get(label)})`;
  element.style.backgroundSize = `${TILE}px ${TILE}px`;
  return element;
}

function swatch(label) {
  return paint(make("i", { class: "swatch", "aria-hidden": "true" }), label);
}

function named(label) {
  return make("span", { class: "named" }, swatch(label), wordOf(label));
}

const VERDICTS = {
  supported: ["right", "✓ supported", "its reasoning concludes with this emotion"],
  contradicted: ["wrong", "✗ contradicted", "its reasoning concludes with another emotion"],
  silent: ["unreadable", "– silent", "its reasoning concludes with no emotion"],
};

function verdict(supported) {
  if (!VERDICTS[supported]) return null;
  const [kind, text, title] = VERDICTS[supported];
  return make("span", { class: `verdict ${kind}`, title }, text);
}

/* An answer is uncertain where its best score is low or the second is close. */
const SURE_SCORE = 0.5;
const SURE_MARGIN = 0.2;

function isUncertain(record) {
  const scores = Object.values(record.scores).sort((a, b) => b - a);
  if (!scores.length) return true;
  return scores[0] < SURE_SCORE || scores[0] - (scores[1] || 0) < SURE_MARGIN;
}
