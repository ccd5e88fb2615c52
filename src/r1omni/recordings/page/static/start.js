"use strict";
/* The recordings that a page holds; its address says which answer is shown. */

{
  const rows = JSON.parse(byId("rows").textContent);
  const blocks = [...document.querySelectorAll("script.content")];
  const parsed = new Map();

  function contentOf(place) {
    if (!parsed.has(place)) {
      parsed.set(place, { ...JSON.parse(blocks[place].textContent), place });
    }
    return parsed.get(place);
  }

  function follow(place, at) {
    const address = at > 0 || place > 0 ? `#${place + 1}.${at + 1}` : location.pathname;
    history.replaceState(null, "", address);
  }

  const [place, at] = location.hash.slice(1).split(".").map((part) => Number(part) - 1);
  showRecordings(rows, byId("rows").dataset.base, contentOf, follow,
    [rows[place] ? place : 0, at > 0 ? at : 0]);
}
