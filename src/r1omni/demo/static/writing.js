"use strict";
/* Answers while they are written: a block a span, of which the label comes last. */

/* returns { text, record } for the events of a job */
function makeWriting(place) {
  const blocks = new Map();
  fill(place);
  place.hidden = false;

  function blockOf(start, end) {
    if (!blocks.has(start)) {
      const block = { whole: "", head: make("p", { class: "when" }, span(start, end)),
        text: make("p", { class: "words" }) };
      blocks.set(start, block);
      const before = [...blocks.keys()].filter((other) => other > start).sort((a, b) => a - b)[0];
      place.insertBefore(make("article", {}, block.head, block.text),
        before === undefined ? null : blocks.get(before).head.parentNode);
    }
    return blocks.get(start);
  }

  return {
    text({ start_s: start, end_s: end, text }) {
      const block = blockOf(start, end);
      block.whole += text;
      // What is inside the tags, and no tag that is only half there.
      block.text.textContent = block.whole.replace(/<\/?(think|answer)>/g, " ").replace(/<[^>]*$/, "").trim();
    },
    record(record) {
      if (record.error) return;
      const block = blockOf(record.start_s, record.end_s);
      fill(block.head, span(record.start_s, record.end_s), named(record.label));
      block.text.textContent = record.reasoning || record.text;
    },
  };
}
