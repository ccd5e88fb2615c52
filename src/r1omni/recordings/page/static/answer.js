"use strict";
/* The chosen answer: what the model said of a span, and what it was given. */

const SHOWN_SCORES = 5;
const MEDIA_WORDS = { video: "picture", audio: "sound" };

function showAnswer(content, at, step) {
  const place = byId("answer");
  const answers = content.records.filter((record) => !record.error);
  if (at < 0) {
    const failures = content.records.filter((record) => record.error);
    fill(place, failures.length ? make("h2", { class: "word" }, "Not analyzed")
      : make("p", { class: "gap" }, "There is no answer for this recording."),
    failures.map((record) => make("p", { class: "failure" }, record.error)));
    fill(byId("seen"));
    return;
  }
  const record = content.records[at];
  showSeen(content, record);
  const go = (by, text, label) => make("button", { type: "button", "aria-label": label, title: label,
    disabled: !answers[at + by], onclick: () => step(by) }, text);
  const isDirect = record.directScores !== null;
  fill(place,
    make("header", {},
      make("p", { class: "when" },
        go(-1, "‹", "Previous answer (left arrow)"),
        make("span", {}, `${span(record.start, record.end)}${record.speaker ? `, ${record.speaker}` : ""}`,
          make("small", {}, `answer ${at + 1} of ${answers.length}`)),
        go(1, "›", "Next answer (right arrow)")),
      make("h2", { class: "word" }, swatch(record.label), record.label === null ? "unreadable answer" : record.label,
        record.scores[record.label] === undefined ? null
          : make("span", { class: "score" }, percent(record.scores[record.label]))),
      make("p", { class: "marks" }, verdict(record.supported),
        record.label !== null && isUncertain(record)
          ? make("span", { class: "verdict unreadable" }, "? uncertain") : null,
        record.text ? make("span", { class: "verdict wrong" }, "✗ not in form") : null,
        record.media.length === 1 ? make("span", { class: "verdict unreadable",
          title: `the model was given the ${MEDIA_WORDS[record.media[0]]} and nothing else` },
        `${MEDIA_WORDS[record.media[0]]} alone`) : null)),
    record.reasoning ? make("blockquote", {}, record.reasoning)
      : make("p", { class: "gap" }, record.text ? "No reasoning could be read." : "It gave no reasoning."),
    record.text ? make("details", { open: record.label === null }, make("summary", {}, "What it wrote"),
      make("p", { class: "verbatim" }, record.text)) : null,
    Object.keys(record.scores).length || isDirect ? scoreTable(record, isDirect) : null,
    record.ablation ? ablationTable(record) : null,
    record.warnings.length ? make("ul", { class: "warnings" },
      record.warnings.map((warning) => make("li", {}, `⚠ ${warning}`))) : null);
}

function scoreTable(record, isDirect) {
  const best = (emotion) => Math.max(record.scores[emotion] || 0, isDirect ? record.directScores[emotion] || 0 : 0);
  const emotions = [...new Set([...Object.keys(record.scores), ...Object.keys(record.directScores || {})])]
    .sort((a, b) => best(b) - best(a)).slice(0, SHOWN_SCORES);
  return make("table", { class: "scores" },
    make("caption", { class: "hidden" }, "Scores of this answer"),
    isDirect ? make("thead", {}, make("tr", {}, make("td"), make("th", { scope: "col" }, "reasoned"),
      make("th", { scope: "col", title: "after an empty reasoning" }, "direct"))) : null,
    make("tbody", {}, emotions.map((emotion) => make("tr", {},
      make("th", { scope: "row" }, named(emotion)), bar(record.scores[emotion] || 0),
      isDirect ? bar(record.directScores[emotion] || 0) : null))));
}

function bar(share) {
  const inside = make("i");
  inside.style.width = `${100 * share}%`;
  return make("td", {}, make("span", { class: "bar" }, inside), make("span", { class: "digits" }, percent(share)));
}

/* How probable the answered emotion is with all that was given and without each medium of it, and what
 * the model says then: answers asked for again, or the direct ones alone. */
function ablationTable(record) {
  const taken = ["audio", "video"].filter((medium) => record.ablation[medium]);
  if (!taken.length) return null;
  const isWhole = Object.keys(record.ablation[taken[0]].scores).length > 0;
  const scoresOf = (said) => (isWhole ? said.scores : said.directScores);
  const best = (scores) => Object.keys(scores).reduce((a, b) => (scores[b] > scores[a] ? b : a));
  const emotion = record.label in scoresOf(record) ? record.label : best(scoresOf(record));
  const row = (name, said) => make("tr", {}, make("th", { scope: "row" }, name), bar(scoresOf(said)[emotion]),
    make("td", {}, named(isWhole ? said.label : best(scoresOf(said)))));
  const given = record.media.map((medium) => MEDIA_WORDS[medium]).join(" and ");
  return make("div", { class: "ablation" },
    make("h3", {}, isWhole ? "With and without" : "With and without, before any reasoning"),
    make("table", { class: "scores" },
      make("caption", { class: "hidden" }, `Score of ${emotion} with and without a medium`),
      make("thead", {}, make("tr", {}, make("td"), make("th", { scope: "col" }, `score of ${emotion}`),
        make("th", { scope: "col" }, "it says"))),
      make("tbody", {}, row(taken.length > 1 ? given : `${given} alone`, record),
        taken.map((medium) => row(`without the ${MEDIA_WORDS[medium]}`, record.ablation[medium])))),
    taken.length > 1 ? null : make("p", { class: "note" },
      `It was given the ${given} alone. Without it nothing is left to go by: what it says then is habit.`));
}

/* What the model was given of the span, below the player. */
function showSeen(content, record) {
  const own = record.pictures.map((at) => content.pictures[at]);
  const said = [];
  const isShown = record.media.includes("video");
  if (own.length && content.frames && isShown) {
    said.push(`${own.length} of the ${counted(content.frames, "picture")} that the model was shown.`);
  } else if (own.length) {
    said.push(record.media.length && !isShown ? "Pictures of this span, which the model was not shown."
      : "Pictures of this span.");
  }
  if (record.media.length) {
    const given = record.media.map((name) => MEDIA_WORDS[name]).join(" and ");
    said.push(`It was given ${given}${record.media.length === 1 ? " alone" : ""}.`);
  }
  fill(byId("seen"),
    make("div", {}, own.map(([time, source]) =>
      make("img", { src: source, alt: `Picture at ${clock(time)}`, title: clock(time) }))),
    make("p", { class: "note" }, said.join(" ")));
}
