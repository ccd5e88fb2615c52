"use strict";
/* The rows of recordings: the list beside one of them. */

function strip(row) {
  const bar = make("span", { class: "strip", "aria-hidden": "true" });
  for (const [start, end, label] of row.strip) {
    const part = paint(make("i"), label);
    part.style.left = `${100 * start}%`;
    part.style.width = `${100 * (end - start)}%`;
    bar.append(part);
  }
  return bar;
}

function gist(row) {
  if (!row.answers) return row.error ? "could not be analyzed" : "no answers";
  const parts = [row.dominant === null ? "nothing readable" : `mostly ${row.dominant}`];
  if (row.contradicted) parts.push(`${row.contradicted} contradicted`);
  if (row.unreadable) parts.push(`${row.unreadable} unreadable`);
  if (row.error) parts.push("not complete");
  return `${parts.join(", ")} · ${clock(row.length, 0)}`;
}

function showListing(rows, load) {
  const place = byId("listing");
  if (!place) return { mark() {} };
  const items = rows.map((row, index) => make("li", {},
    make("button", { type: "button", title: row.path, onclick: () => load(index) },
      make("b", {}, row.name), strip(row), make("span", { class: "gist" }, gist(row)))));
  const search = searchField("Find a recording", (event) => {
    const wanted = event.target.value.toLowerCase();
    items.forEach((item, index) => { item.hidden = !rows[index].path.toLowerCase().includes(wanted); });
  });
  const list = make("ul", {}, items);
  place.append(rows.length > 6 ? search : "", list);
  return {
    mark(current) {
      items.forEach((item, index) => {
        const button = item.firstChild;
        if (index === current) button.setAttribute("aria-current", "true");
        else button.removeAttribute("aria-current");
      });
    },
  };
}
