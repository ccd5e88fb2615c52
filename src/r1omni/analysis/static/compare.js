"use strict";
/* The clips that systems answer otherwise: a list that is filtered. Texts are set as text. */

(() => {
  const block = byId("clips-data");
  if (block === null) return; // all systems answer alike
  const { systems, sets } = JSON.parse(block.textContent);
  const clips = sets.flatMap((one, place) =>
    one.clips.map((clip) => ({ ...clip, place, title: one.title })));
  const STEP = 50;
  let shown = STEP;

  for (const label of [...new Set(clips.map((clip) => clip.label))].sort()) {
    byId("label").append(make("option", { value: label }, label));
  }

  function wanted() {
    const set = byId("of-set")?.value ?? "";
    const [right, wrong, label] = ["right", "wrong", "label"].map((id) => byId(id).value);
    const text = byId("text").value.trim().toLowerCase();
    return clips.filter((clip) => {
      const isWrong = (answer) => !answer.is_right;
      if (set !== "" && clip.place !== Number(set)) return false;
      if (right !== "" && isWrong(clip.answers[right])) return false;
      if (wrong === "all" ? !clip.answers.every(isWrong)
        : wrong !== "" && !isWrong(clip.answers[wrong])) return false;
      if (label !== "" && clip.label !== label) return false;
      return text === "" || [clip.id, ...clip.answers.map((answer) => answer.text)]
        .some((said) => said.toLowerCase().includes(text));
    });
  }

  function line(name, answer) {
    const [kind, mark] = answer.is_right ? ["right", "✓ right"]
      : answer.answer === null ? ["unreadable", answer.is_missing ? "? missing" : "? no class"]
      : ["wrong", "✗ wrong"];
    const said = answer.text === "" ? make("p", { class: "note" }, "no reasoning")
      : make("p", { class: answer.is_reasoning ? "reasoning" : "verbatim" }, answer.text);
    return make("div", {}, make("dt", {}, name),
      make("dd", {}, make("span", { class: `verdict ${kind}` }, mark),
        ` ${answer.answer ?? answer.word}`, said));
  }

  function card(clip) {
    const about = [sets.length > 1 ? `${clip.title}, ` : "", "label ",
      make("strong", {}, clip.label), clip.speaker === null ? "" : `, ${clip.speaker}`];
    return make("article", { class: "clip said" },
      make("header", {}, make("h3", {}, clip.id), make("p", {}, ...about)),
      make("dl", { class: "answers" },
        ...clip.answers.map((answer, place) => line(systems[place], answer))));
  }

  function draw() {
    const found = wanted();
    fill(byId("differing"), found.slice(0, shown).map(card));
    byId("more").hidden = found.length <= shown;
    const total = sets.reduce((sum, one) => sum + one.total, 0);
    byId("count").textContent = `${counted(found.length, "clip")} of ${clips.length} that are `
      + `answered otherwise, of ${total} in all`;
  }

  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("input", () => { shown = STEP; draw(); });
  byId("more").addEventListener("click", () => { shown += STEP; draw(); });
  draw();
})();
