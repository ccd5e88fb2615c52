"use strict";
/* The table of answers of the recording, or of all recordings of the page. */

/*
 * sources: { current() -> recording's place, contents() -> all, chosen() -> answer's place }
 * go(recording, answer): what choosing a row does
 */
function makeAnswers(rows, sources, go) {
  const filter = { text: "", label: "", speaker: "", supported: "", unreadable: false, unsure: false, all: false };
  const count = make("p", { class: "count", role: "status" });
  const failed = make("div", { class: "failed" });
  const isMany = rows.length > 1;
  const hasSpeakers = rows.some((row) => row.speakers.length);
  const all = (key) => [...new Set(rows.flatMap((row) => row[key]))].sort();
  const set = (key) => (event) => {
    filter[key] = event.target.type === "checkbox" ? event.target.checked : event.target.value;
    update();
  };
  const score = ({ record }) => record.scores[record.label] ?? null;
  const direct = ({ record }) => (record.directScores === null ? null : record.directScores[record.direct] ?? null);
  const columns = [
    { title: "Time", kind: "time", value: ({ record, recording }) => recording * 1e6 + record.start,
      cell: (row) => make("button", { type: "button", class: "link", onclick: (event) => {
        event.stopPropagation();
        pick(row);
      } }, span(row.record.start, row.record.end)) },
    isMany ? { title: "Recording", kind: "file", value: ({ recording }) => rows[recording].name,
      cell: ({ recording }) => rows[recording].name } : null,
    hasSpeakers ? { title: "Speaker", value: ({ record }) => record.speaker, cell: ({ record }) => record.speaker } : null,
    { title: "Emotion", value: ({ record }) => record.label, cell: ({ record }) => named(record.label) },
    { title: "Score", kind: "number", value: score, downFirst: true,
      cell: (row) => (score(row) === null ? "–" : percent(score(row))) },
    { title: "Direct", kind: "direct", value: direct, downFirst: true,
      cell: (row) => (direct(row) === null ? "–" : `${row.record.direct} ${percent(direct(row))}`) },
    { title: "Reasoning", kind: "why", value: ({ record }) => record.supported,
      cell: ({ record }) => [verdict(record.supported), record.warnings.length
        ? make("span", { title: record.warnings.join("; ") }, "⚠ ") : null, record.reasoning || record.text] },
  ].filter((column) => column !== null);
  const pick = ({ recording, at }) => go(recording, at);
  const table = makeTable("Table of answers", columns, pick,
    ({ recording, at }) => recording === sources.current() && at === sources.chosen());
  const speakers = all("speakers");
  const place = byId("answers");
  fill(place,
    make("h2", { id: "answers-title" }, "Answers"),
    make("div", { class: "filters" },
      searchField("Text", set("text")),
      choices("Emotion", [["", "any"], ...all("labels").map((label) => [label, label])], set("label")),
      speakers.length
        ? choices("Speaker", [["", "any"], ...speakers.map((who) => [who, who])], set("speaker")) : null,
      choices("Reasoning", [["", "any"], ["supported", "supported"], ["contradicted", "contradicted"],
        ["silent", "silent"]], set("supported")),
      tick("unreadable", set("unreadable")),
      tick("uncertain", set("unsure")),
      isMany ? tick("all recordings", set("all")) : null),
    count, failed, table.element);

  function entries() {
    const wanted = filter.all ? sources.contents() : [sources.contents()[sources.current()]];
    return wanted.flatMap((content) => content.records
      .map((record, at) => ({ recording: content.place, at, record })));
  }

  function keeps({ record }) {
    const text = `${record.reasoning} ${record.text} ${record.warnings.join(" ")} ${wordOf(record.label)} `
      + record.speaker;
    return text.toLowerCase().includes(filter.text.toLowerCase())
      && (!filter.label || record.label === filter.label)
      && (!filter.speaker || record.speaker === filter.speaker)
      && (!filter.supported || record.supported === filter.supported)
      && (!filter.unreadable || record.label === null)
      && (!filter.unsure || isUncertain(record));
  }

  function update() {
    const everything = entries();
    const answers = everything.filter(({ record }) => !record.error);
    const found = answers.filter(keeps);
    place.hidden = !answers.length && !filter.all; // why there are none is where the answer would be
    count.textContent = `${found.length} of ${counted(answers.length, "answer")}`;
    fill(failed, everything.filter(({ record }) => record.error).map(({ record }) =>
      make("p", { class: "gap" }, `Not analyzed: ${record.error}`)));
    table.element.classList.toggle("one", !filter.all);
    table.show(found);
  }

  return { update, mark: table.mark };
}
