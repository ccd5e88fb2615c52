"use strict";
/* A table that sorts, for many rows: only the first hundreds are drawn until more are asked for. */

const ROWS_AT_ONCE = 200;

/*
 * columns: [{ title, value(row), cell(row), kind }], kind a class of the cells
 * pick(row): what a click or Enter on a row's first button does; isPicked(row): whether it is chosen
 * returns { element, show(rows), mark() }
 */
function makeTable(caption, columns, pick, isPicked, firstSort = null) {
  let sorted = firstSort, rows = [], drawn = 0, shown = [];
  const body = make("tbody");
  const heads = columns.map((column, index) =>
    make("th", { scope: "col", class: column.kind, "aria-sort": "none" },
      make("button", { type: "button", class: "sort", onclick: () => sortBy(index) }, column.title)));
  const more = make("button", { type: "button", class: "more", onclick: () => draw(drawn + ROWS_AT_ONCE) });
  const element = make("div", {},
    make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
      make("table", { class: "rows" }, make("caption", { class: "hidden" }, caption),
        make("thead", {}, make("tr", {}, heads)), body)),
    more);

  function sortBy(index) {
    const down = sorted && sorted.index === index ? !sorted.down : Boolean(columns[index].downFirst);
    sorted = { index, down };
    arrange();
  }

  function arrange() {
    shown = [...rows];
    if (sorted) {
      const { value } = columns[sorted.index];
      const { down } = sorted;
      shown.sort((a, b) => compare(value(a), value(b), down ? -1 : 1));
    }
    heads.forEach((head, index) => {
      const own = sorted && sorted.index === index;
      head.setAttribute("aria-sort", own ? (sorted.down ? "descending" : "ascending") : "none");
    });
    body.replaceChildren();
    drawn = 0;
    draw(ROWS_AT_ONCE);
  }

  function draw(upTo) {
    const next = shown.slice(drawn, upTo).map((row) => {
      const line = make("tr", { onclick: (event) => event.target.closest("a") || pick(row) },
        columns.map((column) => make("td", { class: column.kind }, column.cell(row))));
      line.row = row;
      return line;
    });
    body.append(...next);
    drawn += next.length;
    more.hidden = drawn >= shown.length;
    more.textContent = `Show more (${shown.length - drawn} left)`;
    mark();
  }

  function mark() {
    for (const line of body.children) line.classList.toggle("chosen", isPicked(line.row));
  }

  return { element, mark, show(next) { rows = next; arrange(); } };
}

/* What has no value is last, up or down. */
function compare(a, b, sign) {
  const [hasA, hasB] = [a, b].map((value) => value !== null && value !== undefined && value !== "");
  if (!hasA || !hasB) return Number(hasB) - Number(hasA);
  return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
}

function choices(title, options, onchange) {
  return make("label", {}, make("span", {}, title),
    make("select", { onchange }, options.map(([value, text]) => make("option", { value }, text))));
}

/* Rows of checkboxes and fields above a table. */
function searchField(title, oninput) {
  return make("label", {}, make("span", {}, title), make("input", { type: "search", oninput }));
}

function tick(title, onchange) {
  return make("label", { class: "tick" }, make("input", { type: "checkbox", onchange }), title);
}
