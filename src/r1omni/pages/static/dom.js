"use strict";
/* Elements, numbers and times. Texts are set as text, never as HTML. */

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function fill(parent, ...children) {
  parent.replaceChildren(...children.flat().filter((child) => child !== null));
}

function byId(id) {
  return document.getElementById(id);
}

/* 75.25 -> "1:15.3", or "1:15" without digits. */
function clock(seconds, digits = 1) {
  const unit = 10 ** digits;
  const rounded = Math.round(seconds * unit) / unit;
  const hours = Math.floor(rounded / 3600);
  const minutes = Math.floor((rounded % 3600) / 60);
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function span(start, end) {
  return `${clock(start)} – ${clock(end)}`;
}

function percent(share) {
  return `${Math.round(100 * share)}%`;
}

function counted(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
