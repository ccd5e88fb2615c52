"use strict";
/* Scores and sound over time, by uPlot. */

const SCORES_HEIGHT = 190;
const WAVE_HEIGHT = 56;
const RIGHT_PX = 18; // room for half of the last time; lanes have it, too
const EDGE = 1e-4; // seconds between the two ends of a step

function gutter() {
  return window.innerWidth < 720 ? 40 : 72;
}

/* Columns for uPlot: the time, then for each emotion the sum of its score and those before it. */
function stacked(pieces, records, emotions) {
  const columns = [[], ...emotions.map(() => [])];
  pieces.forEach(([start, end, place], index) => {
    const { scores } = records[place];
    const has = Object.keys(scores).length > 0;
    const next = pieces[index + 1];
    const times = [start, Math.max(start, end - EDGE)];
    if (!next || next[0] > end + EDGE) times.push(end);
    times.forEach((time, at) => {
      columns[0].push(time);
      let sum = 0;
      emotions.forEach((emotion, k) => {
        sum += scores[emotion] || 0;
        columns[k + 1].push(has && at < 2 ? sum : null);
      });
    });
  });
  return columns;
}

/*
 * on: { seek(time), view(min, max), hover(time or null) }
 * returns { wave, scores, setView, setPieces, setTime, setSpan, redraw, resize, destroy }
 */
function makeCharts(content, emotions, on) {
  const extent = [0, Math.max(content.length, 0.1)];
  const marks = [];
  let pieces = [], span = null, time = 0, isSetting = false, peaks = [];

  const common = (height) => ({
    width: 600, height, legend: { show: false }, padding: [height > 100 ? 14 : 4, RIGHT_PX, 0, 0],
    cursor: {
      y: false, points: { show: false }, sync: { key: "time" },
      drag: { x: true, y: false, setScale: true, dist: 6 },
      bind: { dblclick: () => () => { on.view(...extent); } },
    },
    hooks: {
      setScale: [(plot, key) => {
        if (key === "x" && !isSetting) on.view(plot.scales.x.min, plot.scales.x.max);
      }],
      ready: [(plot) => marked(plot)],
    },
  });
  const yAxis = (values) => ({
    size: gutter, gap: 6, values, stroke: () => variable("--soft"), font: "12px system-ui, sans-serif",
    splits: () => [0, 0.5, 1], grid: { stroke: () => variable("--line"), width: 1 },
    ticks: { show: false },
  });
  const xAxis = {
    size: 26, gap: 4, space: 70, stroke: () => variable("--soft"), font: "12px system-ui, sans-serif",
    values: (plot, splits) => splits.map((at) => clock(at, splits.length > 1 && splits[1] - splits[0] < 1 ? 1 : 0)),
    grid: { show: false }, ticks: { stroke: () => variable("--line"), size: 4 },
  };

  /* Lines over a chart: where the player is, and the span of the chosen answer. */
  function marked(plot) {
    const mark = { plot, head: make("div", { class: "head" }), span: make("div", { class: "span" }) };
    plot.over.append(mark.span, mark.head);
    let pressed = 0;
    plot.over.addEventListener("mousedown", (event) => { pressed = event.clientX; });
    plot.over.addEventListener("click", (event) => {
      if (Math.abs(event.clientX - pressed) > 5) return; // the end of a drag
      on.seek(plot.posToVal(event.clientX - plot.over.getBoundingClientRect().left, "x"));
    });
    marks.push(mark);
  }

  function place() {
    for (const { plot, head, span: box } of marks) {
      const x = (at) => plot.valToPos(at, "x");
      const width = plot.over.clientWidth;
      head.hidden = x(time) < 0 || x(time) > width;
      head.style.transform = `translateX(${x(time)}px)`;
      box.hidden = span === null;
      if (span === null) continue;
      const [from, to] = [Math.max(x(span[0]), 0), Math.min(x(span[1]), width)];
      box.style.left = `${from}px`;
      box.style.width = `${Math.max(to - from, 0)}px`;
    }
  }

  const ratio = Math.max(1, Math.round(window.devicePixelRatio));
  const scores = new uPlot({
    ...common(SCORES_HEIGHT),
    scales: { x: { time: false, range: (plot, min, max) => [min ?? extent[0], max ?? extent[1]] },
      y: { range: [0, 1] } },
    axes: [xAxis, yAxis((plot, splits) => splits.map(percent))],
    // The highest sum lies at the back, so each emotion is painted over those behind it.
    series: [{}, ...emotions.map((emotion) => ({
      width: 0, points: { show: false },
      fill: (plot) => plot.ctx.createPattern(tile(emotion, ratio), "repeat"),
    })).reverse()],
    hooks: {
      ...common(SCORES_HEIGHT).hooks,
      draw: [drawNotes],
      setCursor: [(plot) => {
        const { left } = plot.cursor;
        on.hover(left >= 0 ? plot.posToVal(left, "x") : null);
      }],
    },
  }, null, make("div"));

  /* Pale where answers are uncertain, and a mark above each peak. */
  function drawNotes(plot) {
    const { ctx, bbox } = plot;
    const x = (at) => plot.valToPos(at, "x", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height);
    ctx.clip();
    ctx.fillStyle = variable("--card");
    ctx.globalAlpha = 0.66;
    for (const [start, end, at] of pieces) {
      if (isUncertain(content.records[at])) {
        ctx.fillRect(x(start), bbox.top, x(end) - x(start), bbox.height);
      }
    }
    ctx.globalAlpha = 1;
    ctx.fillStyle = variable("--ink");
    for (const { time: at } of peaks) {
      const size = 4.5 * ratio;
      ctx.beginPath();
      ctx.moveTo(x(at) - size, bbox.top - 2.4 * size);
      ctx.lineTo(x(at) + size, bbox.top - 2.4 * size);
      ctx.lineTo(x(at), bbox.top - 0.6 * size);
      ctx.fill();
    }
    ctx.restore();
  }

  let wave = null;
  if (content.sound) {
    const { step, lows, highs } = content.sound;
    const loudest = Math.max(4, ...highs, ...lows.map((low) => -low));
    wave = new uPlot({
      ...common(WAVE_HEIGHT),
      scales: { x: { time: false, range: (plot, min, max) => [min ?? extent[0], max ?? extent[1]] },
        y: { range: [-loudest, loudest] } },
      axes: [{ show: false }, { ...yAxis(() => ["", "", ""]), grid: { show: false } }],
      series: [{}, { width: 0, points: { show: false } }, { width: 0, points: { show: false } }],
      bands: [{ series: [2, 1], fill: () => variable("--quiet") }],
    }, [lows.map((_, k) => (k + 0.5) * step), lows, highs], make("div"));
  }
  const plots = wave ? [wave, scores] : [scores];

  return {
    wave, scores,
    setView(min, max) {
      isSetting = true;
      for (const plot of plots) plot.setScale("x", { min, max });
      isSetting = false;
      place();
    },
    setPieces(next, nextPeaks) {
      pieces = next;
      peaks = nextPeaks;
      const [times, ...sums] = stacked(pieces, content.records, emotions);
      isSetting = true;
      scores.setData([times, ...sums.reverse()], false);
      scores.redraw(true, true);
      isSetting = false;
    },
    setTime(next) { time = next; place(); },
    setSpan(next) { span = next; place(); },
    redraw() { for (const plot of plots) plot.redraw(true, true); },
    resize(width) {
      isSetting = true;
      if (wave) wave.setSize({ width, height: WAVE_HEIGHT });
      scores.setSize({ width, height: SCORES_HEIGHT });
      isSetting = false;
      place();
    },
    destroy() { for (const plot of plots) plot.destroy(); },
  };
}
