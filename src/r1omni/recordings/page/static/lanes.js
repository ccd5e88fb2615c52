"use strict";
/* The timeline: pictures, sound, scores, and lanes of segments and answers below each other. */

const MAX_CELLS = 400; // more at once are too narrow to be hit
const PICTURE_STEP_PX = 62;
const MIN_PEAK = 0.5;

/* The answer of the highest score of each emotion, where that is not low; in order of time. */
function peaksOf(pieces, records) {
  const best = new Map();
  for (const [start, end, place] of pieces) {
    const { label, scores } = records[place];
    const score = label === null ? 0 : scores[label] || 0;
    if (score < MIN_PEAK || (best.has(label) && best.get(label).score >= score)) continue;
    best.set(label, { label, score, place, time: (start + end) / 2 });
  }
  return [...best.values()].sort((a, b) => a.time - b.time);
}

/* on: { seek(time), choose(place) }; returns { setTime, choose, zoom, destroy } */
function makeTimeline(content, on) {
  const { records, pieces, segments, pictures } = content;
  const speakers = [...new Set(segments.map((segment) => segment.speaker))];
  const emotions = Object.keys(LOOKS).filter((emotion) => records.some((r) => r.scores && emotion in r.scores));
  for (const record of records) {
    for (const emotion of Object.keys(record.scores || {})) {
      if (!emotions.includes(emotion)) emotions.push(emotion);
    }
  }
  const whole = [0, Math.max(content.length, 0.1)];
  let view = [...whole], speaker = null, chosen = -1;
  const readout = make("p", { class: "readout" });
  const title = make("h2", {}, "Over time");
  const film = make("div", { class: "lane film", "aria-hidden": "true" });
  const peakList = make("p", { class: "peaks" });
  const place = byId("timeline");
  const ofSpeaker = (who) => pieces.filter(([, , at]) => records[at].speaker === who);

  const charts = makeCharts(content, emotions, {
    seek: on.seek,
    view: setView,
    hover(time) {
      const piece = time === null ? null
        : ofSpeaker(speaker).find(([start, end]) => time >= start && time < end);
      readout.textContent = piece ? `${clock(time)}  ${ranked(records[piece[2]].scores, 3)}` : "";
    },
  });
  const scores = make("div", { class: "chart", role: "img" }, charts.scores.root);
  const wave = charts.wave
    ? make("div", { class: "chart", role: "img", "aria-label": "Waveform" }, charts.wave.root) : null;

  const lanes = speakers.map((who) => {
    const words = make("div", { class: "track", role: "group",
      "aria-label": `Segments${who ? ` of ${who}` : ""}` });
    const cells = make("div", { class: "track cells", role: "group",
      "aria-label": `Answers${who ? ` of ${who}` : ""}` });
    return { who, words, cells, element: make("div", { class: "lane" },
      make("span", { class: "who", title: who }, who || "Segments"), words,
      make("span", { class: "who" }, "Answers"), cells) };
  });

  function box(start, end, label, unsure, attributes, ...inside) {
    const fillIn = paint(make("i", { class: unsure ? "fill unsure" : "fill" }), label);
    const button = make("button", { type: "button", tabindex: "-1", ...attributes }, fillIn, ...inside);
    const width = view[1] - view[0];
    button.style.left = `${(100 * (start - view[0])) / width}%`;
    button.style.width = `${(100 * (end - start)) / width}%`;
    return button;
  }

  /* Whether a segment has room for its word; the table and its title have it in any case. */
  function isWide(s, track) {
    const px = (track.clientWidth * (s.end - s.start)) / (view[1] - view[0]);
    return px > 12 + 7 * wordOf(s.label).length;
  }

  function inView(start, end) {
    return end > view[0] && start < view[1];
  }

  function drawLanes() {
    for (const { who, words, cells } of lanes) {
      const seen = segments.filter((s) => s.speaker === who && inView(s.start, s.end));
      fill(words, seen.map((s) => {
        const text = `${wordOf(s.label)}, ${span(s.start, s.end)}`;
        return box(s.start, s.end, s.label, isUncertain(s),
          { class: "segment", title: text, "aria-label": text, onclick: () => on.segment(s) },
          isWide(s, words) ? make("span", {}, wordOf(s.label)) : null);
      }));
      const own = ofSpeaker(who).filter(([start, end]) => inView(start, end));
      fill(cells, own.length > MAX_CELLS
        ? make("span", { class: "gap" }, `${own.length} answers: zoom in to see each`)
        : own.map(([start, end, at]) => {
          const { label, supported } = records[at];
          const text = `${wordOf(label)}${supported ? `, ${supported}` : ""}, ${span(start, end)}`;
          const cell = box(start, end, label, isUncertain(records[at]),
            { class: "cell", title: text, "aria-label": text, onclick: () => on.choose(at) },
            supported === "contradicted" ? make("span", { "aria-hidden": "true" }, "✗") : null);
          cell.place = at;
          return cell;
        }));
    }
    mark();
  }

  function drawFilm() {
    const width = film.clientWidth - gutter() - RIGHT_PX;
    let free = -Infinity;
    const shown = pictures.filter(([time]) => {
      const x = (width * (time - view[0])) / (view[1] - view[0]);
      if (x < 0 || x > width - PICTURE_STEP_PX + 2 || x < free) return false;
      free = x + PICTURE_STEP_PX;
      return true;
    });
    fill(film, make("span", { class: "who" }, "Picture"), make("div", { class: "track" },
      shown.map(([time, source]) => {
        const image = make("img", { src: source, alt: "", title: clock(time), onclick: () => on.seek(time) });
        image.style.left = `${(100 * (time - view[0])) / (view[1] - view[0])}%`;
        return image;
      })));
  }

  /* One stop of the Tab key for each lane: the chosen one, or the first. */
  function mark() {
    const time = chosen >= 0 ? records[chosen] : null;
    for (const { who, words, cells } of lanes) {
      const seen = segments.filter((s) => s.speaker === who && inView(s.start, s.end));
      [...words.children].forEach((button, index) => {
        const s = seen[index];
        const holds = Boolean(time) && time.speaker === who && s.start <= middle(chosen) && middle(chosen) < s.end;
        button.classList.toggle("chosen", holds);
      });
      for (const cell of cells.querySelectorAll("button")) {
        cell.classList.toggle("chosen", cell.place === chosen);
        if (cell.place === chosen) cell.setAttribute("aria-current", "true");
        else cell.removeAttribute("aria-current");
      }
      for (const track of [words, cells]) {
        const stop = track.querySelector(".chosen") || track.querySelector("button");
        for (const button of track.querySelectorAll("button")) button.tabIndex = button === stop ? 0 : -1;
      }
    }
  }

  function middle(at) {
    const own = pieces.find((piece) => piece[2] === at);
    return own ? (own[0] + own[1]) / 2 : records[at].start;
  }

  function setView(min, max) {
    const least = Math.min(0.5, whole[1]);
    const width = Math.min(Math.max(max - min, least), whole[1]);
    const start = Math.min(Math.max(min, 0), whole[1] - width);
    view = [start, start + width];
    charts.setView(...view);
    drawLanes();
    drawFilm();
    out.disabled = all.disabled = width >= whole[1];
    into.disabled = width <= least;
  }

  function zoom(factor) {
    const centre = chosen >= 0 ? middle(chosen) : (view[0] + view[1]) / 2;
    const width = (view[1] - view[0]) * factor;
    setView(centre - width / 2, centre + width / 2);
  }

  function setSpeaker(who) {
    speaker = who;
    const own = ofSpeaker(who);
    const peaks = peaksOf(own, records);
    title.textContent = who ? `Over time: ${who}` : "Over time";
    scores.setAttribute("aria-label", `Scores of emotions over time${who ? ` of ${who}` : ""}; the table `
      + "of answers has the same numbers");
    charts.setPieces(own, peaks);
    fill(peakList, peaks.length ? "Peaks " : "", peaks.map(({ label, score, place: at }) =>
      make("button", { type: "button", class: "peak", onclick: () => on.choose(at) },
        "▼ ", named(label), ` ${percent(score)}, ${span(records[at].start, records[at].end)}`)));
  }

  const press = (text, label, action) =>
    make("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
  const into = press("+", "Zoom in", () => zoom(0.5));
  const out = press("−", "Zoom out", () => zoom(2));
  const all = press("All", "Show the whole length", () => setView(...whole));
  const body = make("div", { class: "tracks" }, pictures.length ? film : null, wave, scores,
    lanes.map((lane) => lane.element));
  const legend = make("ul", { class: "legend" },
    emotions.filter((e) => records.some((r) => r.label === e || (r.scores && r.scores[e] >= 0.05)))
      .map((emotion) => make("li", {}, named(emotion))),
    make("li", {}, make("span", { class: "named" }, make("i", { class: "swatch pale" }),
      `pale: uncertain, best score below ${percent(SURE_SCORE)} or less than ${100 * SURE_MARGIN} points `
      + "above the second")),
    make("li", {}, "✗ reasoning contradicts the answer"));
  fill(place, make("div", { class: "tools" }, title, readout, make("span", { class: "zoom" }, out, into, all)),
    body, legend, peakList);

  const watcher = new ResizeObserver(() => {
    charts.resize(scores.clientWidth);
    drawLanes();
    drawFilm();
  });
  watcher.observe(body);
  charts.resize(scores.clientWidth);
  if (speakers.length) setSpeaker(speakers[0]);
  setView(...whole);

  return {
    setTime(time) { charts.setTime(time); },
    choose(at) {
      chosen = at;
      if (at < 0) return;
      const { start, end, speaker: who } = records[at];
      if (who !== speaker) setSpeaker(who);
      charts.setSpan([start, end]);
      const width = view[1] - view[0];
      if (middle(at) < view[0] || middle(at) > view[1]) setView(middle(at) - width / 2, middle(at) + width / 2);
      mark();
    },
    redraw() { charts.redraw(); },
    destroy() { watcher.disconnect(); charts.destroy(); },
  };
}

function ranked(scores, number) {
  return Object.entries(scores).sort((a, b) => b[1] - a[1]).slice(0, number)
    .map(([emotion, score]) => `${emotion} ${percent(score)}`).join(", ");
}
