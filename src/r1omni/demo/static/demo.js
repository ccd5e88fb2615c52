"use strict";
/* The page: a clip and a question go to the server, the answer is shown while it is written, then whole. */

{
  const form = byId("asking");
  const { elements } = form;
  const limits = JSON.parse(byId("limits").textContent);
  // By answer, the choices of "again without" that the server refuses with it.
  const apart = JSON.parse(byId("apart").textContent);
  const api = makeApi(() => elements.key.value);
  // job: null for none, "" while the clip is sent, then its id.
  // before: what was given to the model until the page itself chose the sound alone.
  let clip = null, job = null, sending = null, result = null, playing = null, before = null;

  const say = (line) => { byId("state").textContent = line; };

  function failed(line, status = 0) {
    const isLocked = status === 401;
    byId("trouble").textContent = isLocked ? "This server asks for a key, and has none or a wrong one; give it" : line;
    if (isLocked) {
      byId("key").hidden = false;
      elements.key.focus();
    }
  }

  function update() {
    byId("ask").disabled = clip === null || job !== null;
    byId("cancel").hidden = job === null;
  }

  makeClip(api, limits, (next) => {
    clip = next;
    const { modality } = elements;
    if (clip && clip.kind === "audio" && modality.value !== "audio") {
      before = modality.value;
      modality.value = "audio";
    } else if (clip && clip.kind !== "audio" && before !== null) {
      modality.value = before;
      before = null;
    }
    update();
  }, failed);
  elements.modality.addEventListener("change", () => { before = null; });

  /* Offer what goes with the chosen answer; what was chosen and does not is said. */
  function couple() {
    const { answer_mode: mode, media_ablation: again } = elements;
    for (const option of again.options) option.disabled = apart[mode.value].includes(option.value);
    const [chosen] = again.selectedOptions;
    if (!chosen || !chosen.disabled) return "";
    again.value = [...again.options].find((option) => !option.disabled).value;
    return `“${chosen.text}” needs another answer than “${mode.selectedOptions[0].text}”; `
      + `“${again.selectedOptions[0].text}” is chosen in its place.`;
  }
  elements.answer_mode.addEventListener("change", () => {
    const line = couple();
    if (line || job === null) say(line);
  });

  function asked() {
    const body = new FormData();
    for (const name of ["modality", "window_s", "label_set", "answer_mode", "media_ablation"]) {
      if (elements[name].value) body.append(name, elements[name].value);
    }
    body.append("file", clip.file, clip.file.name);
    return body;
  }

  function clear() {
    if (result) result.destroy();
    if (playing) URL.revokeObjectURL(playing);
    result = playing = null;
    byId("result").hidden = true;
    byId("writing").hidden = true;
    byId("given").hidden = false;
    failed("");
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear();
    const { file } = clip;
    job = "";
    update();
    say("Sending and checking the clip ...");
    sending = new AbortController();
    try {
      ({ id: job } = await api.json("analyze", { method: "POST", body: asked(), signal: sending.signal }));
      await watch();
      const shown = await api.json(`jobs/${job}/shown`);
      show(shown, file);
      say("");
    } catch (error) {
      say("");
      byId("writing").hidden = true;
      if (error.name !== "AbortError" && !(error instanceof Refused)) throw error;
      failed(error instanceof Refused ? error.message : "Cancelled.", error.status);
    } finally {
      const ended = job;
      job = null;
      update();
      // What is shown is here now. If that fails the server forgets it by itself, a little later.
      if (ended) api.ask(`jobs/${ended}`, { method: "DELETE" }).catch(() => {});
    }
  });

  byId("cancel").addEventListener("click", () => {
    if (job) api.ask(`jobs/${job}`, { method: "DELETE" }).catch(() => {});
    else sending.abort();
  });

  async function watch() {
    say("Waiting for the model ...");
    const writing = makeWriting(byId("writing"));
    let answers = 0;
    for await (const { kind, data } of api.events(`jobs/${job}/events`)) {
      if (kind === "text") writing.text(data);
      if (kind === "record") {
        answers += 1;
        writing.record(data);
      }
      if (kind === "end" && data.state !== "done") throw new Refused(0, data.error);
      if (kind === "end") return;
      say(answers ? `${counted(answers, "answer")} so far ...` : "Writing ...");
    }
    throw new Refused(0, "The server stopped before the answer was whole.");
  }

  function show({ rows, contents }, file) {
    const [content] = contents;
    playing = URL.createObjectURL(file);
    const whole = { ...content, media: content.media === null ? null : playing, place: 0 };
    byId("writing").hidden = true;
    byId("result").hidden = false;
    byId("given").hidden = true; // the same clip is in the player
    for (const media of byId("preview").children) media.pause();
    byId("more").hidden = content.records.length < 2;
    result = showRecordings(rows, "", () => whole, () => {}, [0, 0]);
    byId("answer").focus({ preventScroll: true });
    byId("result").scrollIntoView({ block: "nearest" });
  }

  couple(); // a browser may keep what was chosen before the page was loaded again
  update();
}
