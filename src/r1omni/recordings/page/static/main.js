"use strict";
/* One recording at a time: what is chosen, and how the parts of the page follow each other. */

/*
 * base: before the paths of recordings
 * contentOf(place): of a row, always the same object, with its place
 * follow(recording, answer): told what is shown; begin: both, to begin with
 * returns { destroy }
 */
function showRecordings(rows, base, contentOf, follow, begin) {
  const gone = new AbortController();
  const { signal } = gone;
  let current = -1, chosen = -1, player = null, timeline = null;

  const listing = showListing(rows, (place) => load(place, 0));
  const answers = makeAnswers(rows, {
    current: () => current,
    chosen: () => chosen,
    contents: () => rows.map((_, place) => contentOf(place)),
  }, (place, at) => {
    if (place !== current) load(place, at);
    else choose(at, true);
    if (window.innerWidth < 720) byId("answer").scrollIntoView();
  });

  function load(place, at) {
    if (player) player.destroy();
    if (timeline) timeline.destroy();
    current = place;
    chosen = -1;
    const content = contentOf(place);
    about(content);
    player = makePlayer(content, base, (time) => followed(content, time));
    timeline = content.pieces.length ? makeTimeline(content, {
      seek: (time) => { player.seek(time); },
      choose: (next) => choose(next, true),
      segment: (segment) => choose(answerAt(content, segment.start, segment.speaker), true, segment.start),
    }) : null;
    if (!timeline) fill(byId("timeline"));
    listing.mark(place);
    answers.update();
    choose(content.records[at] && !content.records[at].error ? at : -1, at > 0);
  }

  function about(content) {
    document.title = content.name;
    const told = content.records.filter((record) => !record.error).length;
    const facts = told
      ? [clock(content.length), counted(told, "answer"), counted(content.segments.length, "segment")] : [];
    if (content.path !== content.name) facts.unshift(content.path);
    fill(byId("about"), make("h2", {}, content.name),
      make("p", { class: "facts" }, facts.join(" · ")), make("p", { class: "save" }));
    fill(byId("about-model"), content.model
      ? make("p", { class: "note" }, `Model ${content.model}, settings ${content.settings}.`) : "",
    make("p", { class: "note" }, "Keys: space plays and pauses, ← and → go to the answer before and after, "
      + "with Shift to the segment. Drag over the curves to zoom, double-click to see all."));
    unpacked(content.files).then((files) => {
      if (contentOf(current) !== content) return;
      fill(byId("about").querySelector(".save"), Object.entries(files).map(([label, [name, text]]) =>
        make("button", { type: "button", onclick: () => save(name, text) }, `↓ ${label}`)));
    });
  }

  async function unpacked(files) {
    const bytes = Uint8Array.from(atob(files), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  function save(name, text) {
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  /* The answer that counts at a moment: of a speaker, or of the one that is chosen. */
  function answerAt(content, time, speaker) {
    const found = content.pieces.filter(([start, end]) => time >= start - 1e-6 && time < end - 1e-6);
    const own = found.find(([, , at]) => content.records[at].speaker === speaker) || found[0];
    return own ? own[2] : -1;
  }

  function followed(content, time) {
    if (timeline) timeline.setTime(time);
    const now = chosen >= 0 ? content.records[chosen] : null;
    const at = answerAt(content, time, now ? now.speaker : "");
    if (at >= 0 && at !== chosen) choose(at, false);
  }

  /* Show an answer, and move the player to it: to where it counts, since windows may overlap. */
  function choose(at, moves, time = null) {
    const content = contentOf(current);
    chosen = at;
    if (at >= 0 && moves) {
      const own = content.pieces.find((piece) => piece[2] === at);
      player.seek(time === null ? (own ? own[0] : content.records[at].start) : time);
      if (chosen !== at) chosen = at;
    }
    if (timeline) timeline.choose(at);
    showAnswer(content, at, step);
    answers.mark();
    follow(current, at);
  }

  function step(by) {
    const { records } = contentOf(current);
    const next = records[chosen + by];
    if (next && !next.error) choose(chosen + by, true);
  }

  function stepSegment(by) {
    const content = contentOf(current);
    if (chosen < 0) return;
    const { start, speaker } = content.records[chosen];
    const own = content.segments.filter((segment) => segment.speaker === speaker);
    const piece = content.pieces.find((entry) => entry[2] === chosen);
    const here = own.findLastIndex((segment) => segment.start <= (piece ? piece[0] : start) + 1e-6);
    const next = own[here + by];
    if (next) choose(answerAt(content, next.start, speaker), true, next.start);
  }

  document.addEventListener("keydown", (event) => {
    const { target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.closest("input, select, textarea, video, audio, summary")) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      const inLane = target.closest(".track");
      (event.shiftKey || target.closest(".segment") ? stepSegment : step)(by);
      if (inLane) inLane.querySelector(".chosen")?.focus();
    } else if (event.key === " " && !target.closest("button, a")) {
      player.toggle();
    } else {
      return;
    }
    event.preventDefault();
  }, { signal });
  window.matchMedia("(prefers-color-scheme: dark)")
    .addEventListener("change", () => timeline && timeline.redraw(), { signal });

  load(...begin);
  return {
    destroy() {
      gone.abort();
      if (player) player.destroy();
      if (timeline) timeline.destroy();
    },
  };
}
