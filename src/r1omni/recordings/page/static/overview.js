"use strict";
/* The index of many recordings, each with a page of its own. */

{
  const rows = JSON.parse(byId("rows").textContent);
  const filter = { text: "", label: "", speaker: "", kind: "" };
  const count = make("p", { class: "count", role: "status" });
  const kinds = {
    contradicted: (row) => row.contradicted > 0,
    unreadable: (row) => row.unreadable > 0,
    error: (row) => row.error !== null,
  };
  const table = makeTable("Table of recordings", [
    { title: "Recording", kind: "name", value: (row) => row.name,
      cell: (row) => [make("a", { href: row.page, title: row.path }, row.name), strip(row),
        row.error ? make("small", {}, row.error) : null] },
    { title: "Length", kind: "number", value: (row) => row.length,
      cell: (row) => clock(row.length, 0), downFirst: true },
    { title: "Mostly", value: (row) => row.dominant,
      cell: (row) => (row.dominant === null ? "–" : [named(row.dominant), ` ${percent(row.share)}`]) },
    { title: "Changes", kind: "number", value: (row) => row.changes, cell: (row) => String(row.changes),
      downFirst: true },
    { title: "Contradicted", kind: "number", value: (row) => row.contradicted,
      cell: (row) => String(row.contradicted), downFirst: true },
    { title: "Unreadable", kind: "number", value: (row) => row.unreadable,
      cell: (row) => String(row.unreadable), downFirst: true },
  ], (row) => { location.href = row.page; }, () => false);
  const all = (key) => [...new Set(rows.flatMap((row) => row[key]))].sort();
  const set = (key) => (event) => { filter[key] = event.target.value; update(); };

  function update() {
    const wanted = filter.text.toLowerCase();
    const found = rows.filter((row) =>
      row.path.toLowerCase().includes(wanted)
      && (!filter.label || row.labels.includes(filter.label))
      && (!filter.speaker || row.speakers.includes(filter.speaker))
      && (!filter.kind || kinds[filter.kind](row)));
    count.textContent = `${found.length} of ${counted(rows.length, "recording")}`;
    table.show(found);
  }

  const speakers = all("speakers");
  byId("overview").append(
    make("div", { class: "filters" },
      searchField("Path", set("text")),
      choices("Emotion", [["", "any"], ...all("labels").map((label) => [label, label])], set("label")),
      speakers.length
        ? choices("Speaker", [["", "any"], ...speakers.map((who) => [who, who])], set("speaker"))
        : null,
      choices("With", [["", "anything"], ["contradicted", "contradicted answers"],
        ["unreadable", "unreadable answers"], ["error", "an error"]], set("kind"))),
    count, table.element);
  update();
}
